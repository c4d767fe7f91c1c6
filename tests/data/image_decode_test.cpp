#include "bezel/data/image_decode.h"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <vector>

#include <gtest/gtest.h>
#include <webp/encode.h>

#include "bezel/error.h"
#include "support/media_files.h"

namespace bezel::data {
namespace {

using Pixels = std::vector<std::uint8_t>;
using test::as_bytes;

RgbImage decode(const std::string& file) { return decode_rgb(as_bytes(file), "image"); }

std::string error_of(const std::string& file) {
  try {
    decode(file);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

/// 3 x 2 pixels (width x height) of six different colors.
const std::string kRow0("\0\x01\x02\x03\x04\x05\x06\x07\x08\x09", 10),
    kRow1("\0\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12", 10);

test::PngParts six_pixels() { return {.width = 3, .height = 2, .rows = kRow0 + kRow1}; }

std::string make_webp(bool lossless) {
  Pixels rgb(16 * 8 * 3, 40);
  std::uint8_t* out = nullptr;
  const std::size_t size =
      lossless ? WebPEncodeLosslessRGB(rgb.data(), 16, 8, 48, &out) : WebPEncodeRGB(rgb.data(), 16, 8, 48, 90, &out);
  std::string bytes(reinterpret_cast<char*>(out), size);
  WebPFree(out);
  return bytes;
}

TEST(ImageDecode, PngPixelsAsStored) {
  const RgbImage image = decode(test::make_png(six_pixels()));
  EXPECT_EQ(image.size, (input::ImageSize{2, 3}));
  for (std::size_t i = 0; i < 18; ++i) EXPECT_EQ(image.pixels.at(i), i + 1);
}

TEST(ImageDecode, EveryOrientationMovesTheFirstPixel) {
  // Where the stored top left pixel (color 1 2 3) lies afterwards, as row and column.
  const std::int64_t expected[9][2] = {{}, {0, 0}, {0, 2}, {1, 2}, {1, 0}, {0, 0}, {0, 1}, {2, 1}, {2, 0}};
  for (int orientation = 1; orientation <= 8; ++orientation) {
    auto parts = six_pixels();
    parts.after_data = test::png_chunk("eXIf", test::make_exif(orientation, orientation % 2 == 0).substr(6));
    const std::string file = test::make_png(parts);
    const RgbImage image = decode(file);
    const bool swapped = orientation >= 5;
    EXPECT_EQ(image.size, (swapped ? input::ImageSize{3, 2} : input::ImageSize{2, 3})) << orientation;
    EXPECT_EQ(probe_image_size(as_bytes(file), "image"), image.size) << orientation;
    const auto at = 3 * (expected[orientation][0] * image.size.width + expected[orientation][1]);
    EXPECT_EQ(image.pixels.at(at), 1) << orientation;
  }
}

TEST(ImageDecode, DamagedExifIsNoReasonToFail) {
  for (std::size_t cut = 6; cut < 32; ++cut) {
    auto parts = six_pixels();
    parts.before_data = test::png_chunk("eXIf", test::make_exif(6).substr(6, cut - 6));
    EXPECT_EQ(decode(test::make_png(parts)).pixels.size(), 18u);
  }
}

// The size of an image of 3 x 2 pixels behind a directory of these entries (tag, type, count, field), little-endian.
input::ImageSize size_behind(std::initializer_list<std::array<std::uint32_t, 4>> entries,
                             const std::string& rest = "") {
  std::string exif =
      "II" + test::little_endian(42, 2) + test::little_endian(8, 4) + test::little_endian(entries.size(), 2);
  for (const auto& [tag, type, count, field] : entries)
    exif += test::little_endian(tag, 2) + test::little_endian(type, 2) + test::little_endian(count, 4) +
            test::little_endian(field, 4);
  auto parts = six_pixels();
  parts.after_data = test::png_chunk("eXIf", exif + test::little_endian(0, 4) + rest);
  return probe_image_size(as_bytes(test::make_png(parts)), "image");
}

// Expected values are what Pillow gives; tests/parity/exif.py compares many more.
TEST(ImageDecode, OrientationsOfUnusualTypesAreReadAsPillowReadsThem) {
  const input::ImageSize stored{2, 3}, turned{3, 2};
  constexpr std::uint32_t kByte = 1, kText = 2, kShort = 3, kLong = 4, kFloat = 11, kRational = 5, kWidth = 256;
  EXPECT_EQ(size_behind({{274, kShort, 1, 6}}), turned);
  EXPECT_EQ(size_behind({{274, kLong, 1, 6}}), turned);
  EXPECT_EQ(size_behind({{274, kLong, 1, 0x10006}}), stored);
  EXPECT_EQ(size_behind({{274, kFloat, 1, 0x40c00000}}), turned);  // 6.0
  EXPECT_EQ(size_behind({{274, kByte, 1, 6}}), stored);
  EXPECT_EQ(size_behind({{274, kText, 1, 6}}), stored);
  EXPECT_EQ(size_behind({{274, kShort, 2, 6}}), turned);  // the first of several
  EXPECT_EQ(size_behind({{274, kShort, 1, 1}, {274, kShort, 1, 6}}), stored);
  EXPECT_EQ(size_behind({{274, 99, 1, 6}, {274, kShort, 1, 6}}), turned);
  const std::string two = test::little_endian(12, 4) + test::little_endian(2, 4);
  EXPECT_EQ(size_behind({{274, kRational, 1, 26}}, two), turned);  // 12 / 2
  // A value that is larger than the block is passed over; one that ends behind it ends the directory.
  EXPECT_EQ(size_behind({{kWidth, kLong, 1000, 0}, {274, kShort, 1, 6}}), turned);
  EXPECT_EQ(size_behind({{kWidth, kLong, 2, 1000}, {274, kShort, 1, 6}}), stored);
}

// An uncompressed TIFF of one strip; `tags` are (tag, type, count, value).
std::string make_tiff(std::vector<std::array<std::uint32_t, 4>> tags, const std::string& strip, std::size_t rest = 0) {
  const auto strip_at = static_cast<std::uint32_t>(8 + 2 + 12 * (tags.size() + 2) + 4 + rest);
  tags.push_back({273, 4, 1, strip_at});
  tags.push_back({279, 4, 1, static_cast<std::uint32_t>(strip.size())});
  std::sort(tags.begin(), tags.end());
  std::string file = std::string("II*\0", 4) + test::little_endian(8, 4) + test::little_endian(tags.size(), 2);
  for (const auto& [tag, type, count, value] : tags)
    file += test::little_endian(tag, 2) + test::little_endian(type, 2) + test::little_endian(count, 4) +
            test::little_endian(value, 4);
  return file + test::little_endian(0, 4) + std::string(rest, '\0') + strip;
}

std::vector<std::array<std::uint32_t, 4>> tiff_tags(std::uint32_t bits, std::uint32_t photometric,
                                                    std::uint32_t samples) {
  return {{256, 4, 1, 2},           {257, 4, 1, 1},       {258, 3, 1, bits}, {259, 3, 1, 1},
          {262, 3, 1, photometric}, {277, 3, 1, samples}, {278, 4, 1, 1}};
}

TEST(ImageDecode, TiffOfEverySampleSize) {
  EXPECT_EQ(decode(make_tiff(tiff_tags(8, 1, 1), "\x10\xF0")).pixels, (Pixels{16, 16, 16, 240, 240, 240}));
  EXPECT_EQ(decode(make_tiff(tiff_tags(8, 0, 1), "\x10\xF0")).pixels, (Pixels{239, 239, 239, 15, 15, 15}));
  EXPECT_EQ(decode(make_tiff(tiff_tags(4, 1, 1), "\x1F")).pixels, (Pixels{17, 17, 17, 255, 255, 255}));
  EXPECT_EQ(decode(make_tiff(tiff_tags(1, 1, 1), "\x40")).pixels, (Pixels{0, 0, 0, 255, 255, 255}));
  // 16-bit gray is clipped at 255, as Pillow clips it.
  EXPECT_EQ(decode(make_tiff(tiff_tags(16, 1, 1), std::string("\x07\0\0\1", 4))).pixels,
            (Pixels{7, 7, 7, 255, 255, 255}));
  EXPECT_EQ(decode(make_tiff(tiff_tags(8, 2, 3), "abcdef")).pixels, (Pixels{'a', 'b', 'c', 'd', 'e', 'f'}));
}

TEST(ImageDecode, TiffIsTurnedByItsTag) {
  auto tags = tiff_tags(8, 1, 1);
  tags.push_back({274, 3, 1, 6});
  const std::string file = make_tiff(tags, "\x10\xF0");
  EXPECT_EQ(decode(file).size, (input::ImageSize{2, 1}));
  EXPECT_EQ(probe_image_size(as_bytes(file), "image"), (input::ImageSize{2, 1}));
}

TEST(ImageDecode, BadTiffIsRefused) {
  const std::string file = make_tiff(tiff_tags(8, 1, 1), "\x10\xF0");
  for (std::size_t cut = 0; cut < file.size(); ++cut) EXPECT_NE(error_of(file.substr(0, cut)), "") << cut;
  EXPECT_NE(error_of(make_tiff(tiff_tags(32, 1, 1), std::string(8, 'x'))).find("32 bits in each of its samples"),
            std::string::npos);
  EXPECT_NE(error_of(make_tiff(tiff_tags(8, 8, 3), "abcdef")).find("colors of kind 8"), std::string::npos);
  EXPECT_NE(error_of(make_tiff(tiff_tags(8, 6, 3), "abcdef")).find("YCbCr"), std::string::npos);
  auto huge = tiff_tags(8, 1, 1);
  huge[0][3] = huge[1][3] = 60000;
  EXPECT_NE(error_of(make_tiff(huge, "ab")).find("60000 x 60000"), std::string::npos);
  auto tiles = tiff_tags(8, 1, 1);
  tiles.pop_back();
  tiles.push_back({322, 4, 1, 30000});
  tiles.push_back({323, 4, 1, 30000});
  EXPECT_NE(error_of(make_tiff(tiles, "ab")), "");  // a tile of 900 MB for two pixels
}

TEST(ImageDecode, AlphaIsDroppedNotBlended) {
  const std::string row("\0\xc8\x64\x32\x00", 5);  // fully transparent
  EXPECT_EQ(decode(test::make_png({.color = 6, .rows = row})).pixels, (Pixels{0xc8, 0x64, 0x32}));
}

TEST(ImageDecode, IndicesBeyondThePaletteAreBlack) {
  const std::string rows("\0\x01\x09", 3);
  const auto palette = test::png_chunk("PLTE", std::string("\x01\x02\x03\x04\x05\x06", 6));
  const RgbImage image = decode(test::make_png({.width = 2, .color = 3, .before_data = palette, .rows = rows}));
  EXPECT_EQ(image.pixels, (Pixels{4, 5, 6, 0, 0, 0}));
}

TEST(ImageDecode, SixteenBitGreyIsClippedAndColorScaled) {
  const std::string gray("\0\x00\x80\x01\x00", 5);  // 128 and 256
  EXPECT_EQ(decode(test::make_png({.width = 2, .bits = 16, .color = 0, .rows = gray})).pixels,
            (Pixels{128, 128, 128, 255, 255, 255}));
  const std::string color("\0\x12\x34\x56\x78\x9a\xbc", 7);
  EXPECT_EQ(decode(test::make_png({.bits = 16, .color = 2, .rows = color})).pixels, (Pixels{0x12, 0x56, 0x9a}));
}

TEST(ImageDecode, OneBitGreyIsBlackAndWhite) {
  const std::string row("\0\xa0", 2);  // 1 0 1
  EXPECT_EQ(decode(test::make_png({.width = 3, .bits = 1, .color = 0, .rows = row})).pixels,
            (Pixels{255, 255, 255, 0, 0, 0, 255, 255, 255}));
}

TEST(ImageDecode, JpegOfEveryComponentCount) {
  const RgbImage gray = decode(test::make_jpeg(8, 8, 1, Pixels(64, 77)));
  EXPECT_EQ(gray.pixels, Pixels(192, 77));
  const RgbImage color = decode(test::make_jpeg(8, 8, 3, Pixels(192, 50), test::make_exif(6)));
  EXPECT_NEAR(color.pixels.at(0), 50, 2);
  // Stored inverted: 255 is no ink, so 200 of every ink over full white light is 200 * 255 / 255.
  Pixels cmyk;
  for (int i = 0; i < 64; ++i) cmyk.insert(cmyk.end(), {200, 100, 255, 255});
  const RgbImage ink = decode(test::make_jpeg(8, 8, 4, cmyk));
  EXPECT_NEAR(ink.pixels.at(0), 200, 2);
  EXPECT_NEAR(ink.pixels.at(1), 100, 2);
  EXPECT_NEAR(ink.pixels.at(2), 255, 2);
}

TEST(ImageDecode, WebpOfBothKinds) {
  EXPECT_EQ(decode(make_webp(true)).pixels, Pixels(16 * 8 * 3, 40));
  EXPECT_NEAR(decode(make_webp(false)).pixels.at(5), 40, 3);
}

TEST(ImageDecode, TruncatedFilesAreRefusedAtEveryByte) {
  const std::string png = test::make_png(six_pixels());
  const std::size_t data_end = png.size() - 12;  // Pillow does without IEND, and so do we
  for (std::size_t size = 0; size < data_end; ++size) EXPECT_NE(error_of(png.substr(0, size)), "") << size;
  const std::string jpeg = test::make_jpeg(16, 16, 3, Pixels(768, 90), test::make_exif(3));
  for (std::size_t size = 0; size + 16 < jpeg.size(); ++size) EXPECT_NE(error_of(jpeg.substr(0, size)), "") << size;
  for (const std::string& webp : {make_webp(true), make_webp(false)}) {
    for (std::size_t size = 0; size + 1 < webp.size(); ++size) EXPECT_NE(error_of(webp.substr(0, size)), "") << size;
  }
}

TEST(ImageDecode, WrongChecksumIsRefused) {
  const std::string png = test::make_png(six_pixels());
  for (std::size_t at = 8; at < png.size() - 12; ++at) {
    std::string bad = png;
    bad[at] = static_cast<char>(bad[at] ^ 0x40);
    EXPECT_NE(error_of(bad), "") << at;
  }
}

/// A flipped bit can make a valid header of tens of megapixels: true to its word, and too slow for a test.
bool claims_much(const std::string& file) {
  try {
    const auto size = probe_image_size(as_bytes(file), "image");
    return size.height * size.width > 100000;
  } catch (const Error&) {
    return false;
  }
}

TEST(ImageDecode, FlippedBytesNeverCrash) {
  const std::string files[] = {test::make_jpeg(16, 16, 3, Pixels(768, 90), test::make_exif(3)), make_webp(true),
                               make_webp(false)};
  for (const std::string& file : files) {
    for (std::size_t at = 0; at < file.size(); ++at) {
      for (const int mask : {0x01, 0x80, 0xff}) {
        std::string bad = file;
        bad[at] = static_cast<char>(bad[at] ^ mask);
        if (!claims_much(bad)) error_of(bad);
      }
    }
  }
}

TEST(ImageDecode, BombsAndEmptyImagesAreRefusedFromTheHeader) {
  for (const auto& [width, height] : {std::pair{60000u, 60000u},
                                      {0u, 5u},
                                      {5u, 0u},
                                      {0x7fffffffu, 0x7fffffffu},
                                      {0xffffffffu, 0xffffffffu},
                                      {9460u, 9460u}}) {
    auto parts = six_pixels();
    parts.width = width;
    parts.height = height;
    const std::string file = test::make_png(parts);
    EXPECT_NE(error_of(file).find("pixels"), std::string::npos) << width << " x " << height;
    EXPECT_THROW(probe_image_size(as_bytes(file), "image"), Error);
  }
}

TEST(ImageDecode, JpegAndWebpBombsAreRefusedFromTheHeader) {
  std::string jpeg = test::make_jpeg(8, 8, 3, Pixels(192, 50));
  const auto frame = jpeg.find("\xff\xc0");  // marker, length, bits, then height and width
  ASSERT_NE(frame, std::string::npos);
  for (const int side : {60000, 0}) {
    jpeg.replace(frame + 5, 4, test::big_endian(side, 2) + test::big_endian(side, 2));
    EXPECT_NE(error_of(jpeg), "") << side;
    if (side > 0) {
      EXPECT_NE(error_of(jpeg).find("60000 x 60000 pixels, at most"), std::string::npos) << error_of(jpeg);
    }
    EXPECT_THROW(probe_image_size(as_bytes(jpeg), "image"), Error) << side;
  }
  // An extended header may claim a canvas of 2^24 x 2^24 pixels.
  const std::string plain = make_webp(true).substr(12);
  const std::string canvas = std::string(4, '\0') + std::string(6, '\xff');
  const std::string chunks = "WEBPVP8X" + test::little_endian(canvas.size(), 4) + canvas + plain;
  const std::string webp = "RIFF" + test::little_endian(chunks.size(), 4) + chunks;
  EXPECT_NE(error_of(webp), "");
  EXPECT_THROW(probe_image_size(as_bytes(webp), "image"), Error);
}

/// 3 x 2 pixels on a screen of 4 x 2, at column 1, in colors 1 2 3 / 3 2 1 of four; codes of 3 bits: clear (4), the
/// pixels, end (5), with a clear between so that the size of codes stays.
std::string make_gif(bool interlaced = false) {
  std::string gif = "GIF89a" + test::little_endian(4, 2) + test::little_endian(2, 2) + std::string("\x81\0\0", 3);
  gif += std::string("\x0a\x0b\x0c\x14\x15\x16\x1e\x1f\x20\x28\x29\x2a", 12);
  gif += "," + test::little_endian(1, 2) + test::little_endian(0, 2) + test::little_endian(3, 2) +
         test::little_endian(2, 2) + std::string(1, interlaced ? '\x40' : '\0');
  std::uint64_t bits = 0;
  int at = 0;
  for (const std::uint64_t code : {4, 1, 2, 4, 3, 3, 4, 2, 1, 5}) {
    bits |= code << at;
    at += 3;
  }
  return gif + '\x02' + '\x04' + test::little_endian(bits, 4) + std::string("\0;", 2);
}

TEST(ImageDecode, GifFramesStandOnTheScreen) {
  const RgbImage image = decode(make_gif());
  EXPECT_EQ(image.size, (input::ImageSize{2, 4}));
  const Pixels zero{10, 11, 12}, one{20, 21, 22}, two{30, 31, 32}, three{40, 41, 42};
  Pixels expected;
  for (const Pixels& color : {zero, one, two, three, zero, three, two, one})
    expected.insert(expected.end(), color.begin(), color.end());
  EXPECT_EQ(image.pixels, expected);
  EXPECT_EQ(decode(make_gif(true)).pixels, expected);  // of two rows the passes are in order
}

TEST(ImageDecode, BadGifsAreRefused) {
  const std::string gif = make_gif();
  for (std::size_t size = 0; size + 2 < gif.size(); ++size) EXPECT_NE(error_of(gif.substr(0, size)), "") << size;
  std::string empty = gif;
  empty.replace(30, 2, std::string(2, '\0'));  // width of the frame
  EXPECT_NE(error_of(empty).find("no pixels"), std::string::npos) << error_of(empty);
  std::string bomb = gif;
  bomb.replace(6, 4, "\x60\xea\x60\xea");
  EXPECT_NE(error_of(bomb).find("60000 x 60000 pixels, at most"), std::string::npos) << error_of(bomb);
  EXPECT_THROW(probe_image_size(as_bytes(bomb), "image"), Error);
  EXPECT_NE(error_of(gif.substr(0, 13) + ";").find("image: bad GIF"), std::string::npos);
}

/// 2 x 2 pixels of 24 bits, stored from the bottom row up, each row with two bytes of padding.
std::string make_bmp(std::int32_t height = 2, std::int32_t width = 2, int bits = 24, int compression = 0) {
  const auto word = [](std::int64_t value, int bytes) {
    return test::little_endian(static_cast<std::uint32_t>(value), bytes);
  };
  return "BM" + word(70, 4) + word(0, 4) + word(54, 4) + word(40, 4) + word(width, 4) + word(height, 4) + word(1, 2) +
         word(bits, 2) + word(compression, 4) + std::string(20, '\0') + std::string("\3\2\1\6\5\4\0\0", 8) +
         std::string("\x9\x8\x7\xc\xb\xa\0\0", 8);
}

TEST(ImageDecode, BmpRowsStandBottomUpUnlessTheHeightIsNegative) {
  EXPECT_EQ(decode(make_bmp()).pixels, (Pixels{7, 8, 9, 10, 11, 12, 1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(decode(make_bmp(-2)).pixels, (Pixels{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}));
}

TEST(ImageDecode, BadBmpsAreRefused) {
  const std::string bmp = make_bmp();
  for (std::size_t size = 0; size < bmp.size(); ++size) EXPECT_NE(error_of(bmp.substr(0, size)), "") << size;
  EXPECT_NE(error_of(make_bmp(60000, 60000)).find("60000 x 60000 pixels, at most"), std::string::npos);
  EXPECT_THROW(probe_image_size(as_bytes(make_bmp(60000, 60000)), "image"), Error);
  for (const auto& [height, width] : {std::pair{0, 2}, {2, 0}, {2, -2}, {-2147483647 - 1, 2}})
    EXPECT_NE(error_of(make_bmp(height, width)).find("pixels"), std::string::npos) << height << " x " << width;
  EXPECT_NE(error_of(make_bmp(2, 2, 8, 1)).find("run-length compression"), std::string::npos);
  EXPECT_NE(error_of(make_bmp(2, 2, 7)).find("BMP of 7 bits"), std::string::npos);
  EXPECT_NE(error_of(make_bmp(2, 2, 8)).find("truncated"), std::string::npos);  // no room for 256 colors
  std::string inside = bmp;
  inside.replace(10, 4, std::string(4, '\0'));
  EXPECT_NE(error_of(inside).find("pixels at byte 0, inside the header"), std::string::npos);
}

TEST(ImageDecode, OtherFilesAreNamedAsSuch) {
  for (const char* bad : {"", "GIF88a", "hello", "\xff\xd8", "RIFF....WAVEfmt ", "\x89PNG\r\n\x1a"}) {
    EXPECT_NE(error_of(bad).find("image: not an image"), std::string::npos) << bad;
  }
}

}  // namespace
}  // namespace bezel::data
