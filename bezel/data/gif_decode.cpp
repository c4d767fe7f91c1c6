#include <algorithm>
#include <array>

#include "bezel/data/image_codecs.h"
#include "bezel/error.h"

namespace bezel::data {
namespace {

constexpr int kMaxCodeBits = 12;
constexpr std::size_t kMaxCodes = 1 << kMaxCodeBits;

/// Reads bytes in order and refuses to read past the end.
class GifBytes {
 public:
  GifBytes(ImageBytes bytes, std::string_view source) : bytes_(bytes), source_(source) {}

  int byte() { return std::to_integer<int>(take(1)[0]); }
  int word() {
    const int low = byte();
    return low | byte() << 8;
  }
  ImageBytes take(std::size_t count) {
    if (count > bytes_.size() - at_) fail("the file is truncated");
    at_ += count;
    return bytes_.subspan(at_ - count, count);
  }
  void skip_blocks() {
    while (const int count = byte()) take(static_cast<std::size_t>(count));
  }
  [[noreturn]] void fail(std::string_view what) const { throw Error(source_, ": bad GIF: ", what); }

 private:
  ImageBytes bytes_;
  std::string_view source_;
  std::size_t at_ = 0;
};

/// The first frame of a GIF, up to its data.
struct GifFrame {
  std::int64_t screen_width = 0, screen_height = 0;
  std::int64_t left = 0, top = 0, width = 0, height = 0;
  ImageBytes palette;  // of red, green, blue; empty: grey
  int transparent = 0;
  bool interlaced = false;
};

ImageBytes read_palette(GifBytes& in, int flags) {
  return (flags & 0x80) == 0 ? ImageBytes{} : in.take(std::size_t{3} << ((flags & 7) + 1));
}

void read_extension(GifBytes& in, GifFrame& frame) {
  constexpr int kGraphicControl = 0xf9;
  if (in.byte() == kGraphicControl) {
    const ImageBytes block = in.take(static_cast<std::size_t>(in.byte()));
    if (block.size() >= 4 && (std::to_integer<int>(block[0]) & 1) != 0)
      frame.transparent = std::to_integer<int>(block[3]);
    if (block.empty()) return;
  }
  in.skip_blocks();
}

GifFrame read_frame(GifBytes& in) {
  in.take(6);
  GifFrame frame;
  frame.screen_width = in.word();
  frame.screen_height = in.word();
  const int screen_flags = in.byte();
  in.take(2);
  frame.palette = read_palette(in, screen_flags);
  for (int kind = in.byte(); kind != ','; kind = in.byte()) {
    if (kind == ';') in.fail("it holds no image");
    if (kind == '!') read_extension(in, frame);
  }
  frame.left = in.word();
  frame.top = in.word();
  frame.width = in.word();
  frame.height = in.word();
  const int flags = in.byte();
  frame.interlaced = (flags & 0x40) != 0;
  if (const ImageBytes own = read_palette(in, flags); !own.empty()) frame.palette = own;
  if (frame.width == 0 || frame.height == 0) in.fail("its first frame has no pixels");
  // A frame larger than the screen enlarges it, as in Pillow.
  frame.screen_width = std::max(frame.screen_width, frame.left + frame.width);
  frame.screen_height = std::max(frame.screen_height, frame.top + frame.height);
  return frame;
}

/// LZW codes of up to 12 bits out of blocks of up to 255 bytes.
class GifPixels {
 public:
  explicit GifPixels(GifBytes& in) : in_(in), first_bits_(in.byte()) {
    if (first_bits_ < 1 || first_bits_ > 8) in_.fail("its codes begin with a size outside 1 to 8 bits");
    clear();
  }

  /// Fills `out`, one index a pixel.
  void read(std::vector<std::uint8_t>& out) {
    std::size_t done = 0;
    while (done < out.size()) {
      const std::size_t code = next_code();
      if (code == clear_code()) {
        clear();
        continue;
      }
      if (code == clear_code() + 1) in_.fail("its pixels end too early");
      done = write(code, out, done);
    }
  }

 private:
  std::size_t clear_code() const { return std::size_t{1} << first_bits_; }
  void clear() {
    code_bits_ = first_bits_ + 1;
    num_codes_ = clear_code() + 2;
    has_last_ = false;
  }
  std::size_t next_code() {
    while (num_bits_ < code_bits_) {
      if (at_ == block_.size()) {
        block_ = in_.take(static_cast<std::size_t>(in_.byte()));
        at_ = 0;
        if (block_.empty()) in_.fail("its pixels end too early");
      }
      bits_ |= std::to_integer<std::uint32_t>(block_[at_++]) << num_bits_;
      num_bits_ += 8;
    }
    const std::size_t code = bits_ & ((1u << code_bits_) - 1);
    bits_ >>= code_bits_;
    num_bits_ -= code_bits_;
    return code;
  }
  // Strings are chains of their last pixels, so they come out backwards.
  std::size_t write(std::size_t code, std::vector<std::uint8_t>& out, std::size_t done) {
    const bool is_new = code == num_codes_ && has_last_;
    if (code > num_codes_ || (code == num_codes_ && !has_last_)) in_.fail("a code that has no meaning");
    std::size_t count = 0, at = is_new ? last_ : code;
    if (is_new) reversed_[count++] = first_;
    for (; at >= clear_code() + 2; at = prefix_[at]) reversed_[count++] = suffix_[at];
    reversed_[count++] = first_pixel(at);
    if (is_new) reversed_[0] = reversed_[count - 1];
    add(reversed_[count - 1], code);
    while (count > 0 && done < out.size()) out[done++] = reversed_[--count];
    return done;
  }
  static std::uint8_t first_pixel(std::size_t code) { return static_cast<std::uint8_t>(code); }
  void add(std::uint8_t pixel, std::size_t code) {
    if (has_last_ && num_codes_ < kMaxCodes) {
      prefix_[num_codes_] = static_cast<std::uint16_t>(last_);
      suffix_[num_codes_] = pixel;
      if (++num_codes_ == std::size_t{1} << code_bits_ && code_bits_ < kMaxCodeBits) ++code_bits_;
    }
    first_ = pixel;
    last_ = code;
    has_last_ = true;
  }

  GifBytes& in_;
  int first_bits_;
  int code_bits_ = 0;
  int num_bits_ = 0;
  std::uint32_t bits_ = 0;
  ImageBytes block_;
  std::size_t at_ = 0;
  std::size_t num_codes_ = 0;
  std::size_t last_ = 0;
  std::uint8_t first_ = 0;
  bool has_last_ = false;
  std::array<std::uint16_t, kMaxCodes> prefix_{};
  std::array<std::uint8_t, kMaxCodes> suffix_{};
  std::array<std::uint8_t, kMaxCodes + 1> reversed_{};
};

/// Row of the image for each row as stored.
std::vector<std::int64_t> row_order(const GifFrame& frame) {
  std::vector<std::int64_t> rows;
  if (!frame.interlaced) {
    for (std::int64_t y = 0; y < frame.height; ++y) rows.push_back(y);
    return rows;
  }
  constexpr std::array<std::pair<int, int>, 4> kPasses{{{0, 8}, {4, 8}, {2, 4}, {1, 2}}};
  for (const auto& [begin, step] : kPasses)
    for (std::int64_t y = begin; y < frame.height; y += step) rows.push_back(y);
  return rows;
}

void put_color(const GifFrame& frame, std::size_t index, std::uint8_t* to) {
  for (std::size_t channel = 0; channel < 3; ++channel) {
    if (frame.palette.empty()) {
      to[channel] = static_cast<std::uint8_t>(index);
    } else if (3 * index + channel < frame.palette.size()) {
      to[channel] = std::to_integer<std::uint8_t>(frame.palette[3 * index + channel]);
    } else {
      to[channel] = 0;
    }
  }
}

}  // namespace

ImageHeader read_gif_header(ImageBytes bytes, std::string_view source) {
  GifBytes in(bytes, source);
  const GifFrame frame = read_frame(in);
  return {{frame.screen_height, frame.screen_width}, 1};
}

RgbImage decode_gif(ImageBytes bytes, const ImageHeader& header, std::string_view source) {
  GifBytes in(bytes, source);
  const GifFrame frame = read_frame(in);
  std::vector<std::uint8_t> stored(static_cast<std::size_t>(frame.width * frame.height));
  GifPixels(in).read(stored);
  RgbImage out{header.size, {}};
  out.pixels.resize(static_cast<std::size_t>(3 * out.size.height * out.size.width));
  for (std::size_t at = 0; at < out.pixels.size(); at += 3)
    put_color(frame, static_cast<std::size_t>(frame.transparent), out.pixels.data() + at);
  const std::uint8_t* from = stored.data();
  for (const std::int64_t y : row_order(frame)) {
    std::uint8_t* to = out.pixels.data() + 3 * ((frame.top + y) * out.size.width + frame.left);
    for (std::int64_t x = 0; x < frame.width; ++x, to += 3) put_color(frame, *from++, to);
  }
  return out;
}

}  // namespace bezel::data
