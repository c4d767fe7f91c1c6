#include "bezel/io/torn_map.h"

#include <csignal>
#include <cstdlib>

#include <gtest/gtest.h>

#include "bezel/io/mapped_file.h"
#include "bezel/io/safetensors.h"
#include "tests/support/temp_folder.h"

namespace bezel::io {
namespace {

using test::says;
using test::TempFolder;
using test::write_bytes;

constexpr std::size_t kBytes = 64 * 1024;

// These run in processes of their own: a map that was torn stays so.
[[noreturn]] void leave(bool good) { std::_Exit(good ? 0 : 1); }

TEST(TornMap, TruncatedPagesReadAsZerosAndAreReported) {
  const TempFolder folder;
  write_bytes(folder / "a", std::string(kBytes, 'x'));
  EXPECT_EXIT(
      {
        survive_torn_maps();
        const auto file = MappedFile::open(folder / "a");
        throw_if_torn();
        std::filesystem::resize_file(folder / "a", 4096);
        const bool still_there = file->data()[4095] == std::byte{'x'};
        const bool zeros = file->data()[kBytes - 1] == std::byte{0} && file->data()[4096] == std::byte{0};
        const bool said = says(test::error_of([] { throw_if_torn(); }), (folder / "a") + ": was truncated");
        // What may hold those zeros gets no name.
        const bool refused = says(test::error_of([&] { write_safetensors(folder / "out", {}); }), "was truncated");
        leave(still_there && zeros && said && refused && !std::filesystem::exists(folder / "out"));
      },
      testing::ExitedWithCode(0), "");
}

TEST(TornMap, OtherFaultsStillKill) {
  const TempFolder folder;
  write_bytes(folder / "a", std::string(kBytes, 'x'));
  EXPECT_EXIT(
      {
        survive_torn_maps();
        const auto file = MappedFile::open(folder / "a");
        ::raise(SIGBUS);
        leave(false);
      },
      testing::KilledBySignal(SIGBUS), "");
}

TEST(TornMap, WithoutTheHandlerATornMapKills) {
  const TempFolder folder;
  write_bytes(folder / "a", std::string(kBytes, 'x'));
  EXPECT_EXIT(
      {
        const auto file = MappedFile::open(folder / "a");
        std::filesystem::resize_file(folder / "a", 0);
        leave(file->data()[0] == std::byte{0});
      },
      testing::KilledBySignal(SIGBUS), "");
}

}  // namespace
}  // namespace bezel::io
