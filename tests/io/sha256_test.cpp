#include "bezel/io/sha256.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "tests/support/temp_folder.h"

namespace bezel::io {
namespace {

// The examples of FIPS 180-4 and NIST's long message.
TEST(Sha256, GivesTheStandardsExamples) {
  EXPECT_EQ(sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256(std::string(1'000'000, 'a')), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, ProcessorsInstructionsGiveTheSame) {
  std::string text;
  for (std::size_t i = 0; i < 1000; ++i) {
    Sha256 fast, plain(true);
    fast.update(text);
    plain.update(text);
    EXPECT_EQ(fast.finish(), plain.finish()) << i;
    text += static_cast<char>(i * i + 3 * i);
  }
}

TEST(Sha256, PiecesOfAnySizeGiveTheSame) {
  std::string text;
  for (int i = 0; i < 300; ++i) text += static_cast<char>(i * 7);
  for (std::size_t piece = 1; piece < 130; ++piece) {
    Sha256 hash;
    for (std::size_t at = 0; at < text.size(); at += piece) hash.update(text.substr(at, piece));
    EXPECT_EQ(hash.finish(), sha256(text)) << piece;
  }
}

TEST(Sha256, ReadsRegularFilesOnly) {
  const test::TempFolder folder;
  const std::string text(std::size_t{3} << 20, 'x');
  test::write_bytes(folder / "a", text);
  EXPECT_EQ(sha256_file(folder / "a"), sha256(text));
  ASSERT_EQ(::mkfifo((folder / "fifo").c_str(), 0600), 0);
  EXPECT_TRUE(test::says(test::error_of([&] { sha256_file(folder / "fifo"); }), "not a regular file"));
  EXPECT_TRUE(test::says(test::error_of([&] { sha256_file(folder / "none"); }), "No such file"));
}

TEST(Sha256, HexadecimalGoesBothWays) {
  const std::string bytes("\x00\x7f\x80\xff", 4);
  EXPECT_EQ(to_hex(bytes), "007f80ff");
  EXPECT_EQ(from_hex("007f80ff", "here"), bytes);
  EXPECT_TRUE(test::says(test::error_of([] { from_hex("0g", "here"); }), "here: not hexadecimal"));
  EXPECT_TRUE(test::says(test::error_of([] { from_hex("000", "here"); }), "two a byte"));
}

}  // namespace
}  // namespace bezel::io
