#include "bezel/io/zstd_stream.h"

#include <algorithm>
#include <cstring>

#include <gtest/gtest.h>
#include <zstd.h>

#include "tests/support/temp_folder.h"

namespace bezel::io {
namespace {

using test::error_of;
using test::says;

std::string compressed(const std::string& text) {
  std::string frame(ZSTD_compressBound(text.size()), '\0');
  frame.resize(ZSTD_compress(frame.data(), frame.size(), text.data(), text.size(), 1));
  return frame;
}

std::string decoded(const std::string& frame, std::uint64_t expected_bytes) {
  std::string_view rest = frame;
  std::string text;
  const ByteSource source = [&](std::span<std::byte> to) {
    const std::size_t count = std::min<std::size_t>({to.size(), rest.size(), 7});  // in many small pieces
    std::memcpy(to.data(), rest.data(), count);
    rest.remove_prefix(count);
    return count;
  };
  decode_zstd(source, expected_bytes, "chunk", [&](std::span<const std::byte> piece) {
    text.append(reinterpret_cast<const char*>(piece.data()), piece.size());
  });
  return text;
}

TEST(ZstdStream, DecodesMoreThanOnePiece) {
  std::string text;
  while (text.size() < 3'000'000) text += std::to_string(text.size() * 2654435761u);
  EXPECT_EQ(decoded(compressed(text), text.size()), text);
  EXPECT_EQ(decode_zstd_text(compressed(text), text.size(), "node"), text);
  EXPECT_EQ(decoded(compressed(""), 0), "");
}

TEST(ZstdStream, DecodesARawBlockOfRfc8878) {
  // Magic, a frame header of a single segment of 3 bytes, one last raw block of 3 bytes.
  EXPECT_EQ(decoded(std::string("\x28\xb5\x2f\xfd\x20\x03\x19\x00\x00", 9) + "abc", 3), "abc");
}

TEST(ZstdStream, RefusesDamageAndOtherSizes) {
  const std::string frame = compressed("twelve bytes");
  EXPECT_TRUE(says(error_of([&] { decoded(frame.substr(0, frame.size() - 1), 12); }), "chunk: zstd data end early"));
  EXPECT_TRUE(says(error_of([&] { decoded("", 12); }), "end early"));
  EXPECT_TRUE(says(error_of([&] { decoded("no frame at all", 12); }), "zstd data are damaged"));
  EXPECT_TRUE(says(error_of([&] { decoded(frame, 13); }), "hold 12 bytes, expected 13"));
  EXPECT_TRUE(says(error_of([&] { decoded(frame, 11); }), "more than the expected 11"));
  EXPECT_TRUE(says(error_of([&] { decoded(frame + "x", 12); }), "bytes follow the zstd frame"));
  EXPECT_TRUE(says(error_of([&] { decode_zstd_text(frame, 11, "node"); }), "node: zstd data hold more than 11"));
}

TEST(ZstdStream, ABombIsStoppedAtTheLimit) {
  const std::string bomb = compressed(std::string(64 << 20, '\0'));
  EXPECT_LT(bomb.size(), 10'000u);
  EXPECT_TRUE(says(error_of([&] { decode_zstd_text(bomb, 1 << 20, "node"); }), "more than 1048576"));
}

}  // namespace
}  // namespace bezel::io
