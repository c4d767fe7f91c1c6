#include "bezel/report/tensorboard.h"

#include <filesystem>

#include <gtest/gtest.h>

#include "support/temp_folder.h"

namespace bezel::report {
namespace {

std::uint64_t number_at(const std::string& bytes, std::size_t at, int size_bytes) {
  std::uint64_t value = 0;
  for (int i = 0; i < size_bytes; ++i)
    value |= static_cast<std::uint64_t>(static_cast<unsigned char>(bytes.at(at + static_cast<std::size_t>(i))))
             << 8 * i;
  return value;
}

// The published test vectors of CRC-32C (RFC 3720, appendix B.4).
TEST(Crc32c, PublishedVectors) {
  EXPECT_EQ(crc32c("123456789"), 0xE3069283u);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAu);
  EXPECT_EQ(crc32c(std::string(32, '\xFF')), 0x62A8AB43u);
  std::string rising;
  for (char c = 0; c < 32; ++c) rising += c;
  EXPECT_EQ(crc32c(rising), 0x46DD794Eu);
}

// What TensorBoard makes of the records is tested with TensorBoard (parity.run_reports); here only their frames.
TEST(EventWriter, RecordsAreFramedWithLengthAndChecksums) {
  const test::TempFolder folder;
  std::string path;
  {
    EventWriter writer(folder / "runs", 1);
    path = writer.path();
    const Scalar scalars[] = {{"train/loss", 1.5}, {"train/epoch", 0.25}};
    writer.add(7, scalars);
  }
  const std::string bytes = test::read_bytes(path);
  std::size_t records = 0, at = 0;
  const auto unmasked = [](std::uint64_t masked) {
    const auto turned = static_cast<std::uint32_t>(masked) - 0xA282EAD8u;
    return turned >> 17 | turned << 15;
  };
  for (; at < bytes.size(); ++records) {
    const std::uint64_t size = number_at(bytes, at, 8);
    EXPECT_EQ(unmasked(number_at(bytes, at + 8, 4)), crc32c(bytes.substr(at, 8)));
    const std::string event = bytes.substr(at + 12, size);
    EXPECT_EQ(unmasked(number_at(bytes, at + 12 + size, 4)), crc32c(event));
    at += 16 + size;
  }
  EXPECT_EQ(at, bytes.size());
  EXPECT_EQ(records, 3u);  // the version, the start, the scalars
  EXPECT_NE(bytes.find("brain.Event:2"), std::string::npos);
  EXPECT_NE(bytes.find("train/epoch"), std::string::npos);
}

TEST(EventWriter, TwoWritersOfOneFolderTakeTwoFiles) {
  const test::TempFolder folder;
  const EventWriter first(folder / "runs", 0), second(folder / "runs", 0);
  EXPECT_NE(first.path(), second.path());
}

TEST(EventWriter, AFolderThatCannotBeMadeIsNamed) {
  const test::TempFolder folder;
  test::write_bytes(folder / "runs", "a file");
  EXPECT_TRUE(test::says(test::error_of([&] { EventWriter(folder / "runs", 0); }), folder / "runs"));
}

}  // namespace
}  // namespace bezel::report
