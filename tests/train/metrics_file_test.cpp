#include "bezel/train/metrics_file.h"

#include <gtest/gtest.h>

#include "tests/support/file_size_limit.h"
#include "tests/support/temp_folder.h"

namespace bezel::train {
namespace {

using test::read_bytes;
using test::TempFolder;

TEST(MetricsFile, GoesOnFromWhatItBeganWith) {
  const TempFolder folder;
  MetricsFile file;
  file.add({{"step", 0}});
  EXPECT_EQ(file.text(), "") << "before begin() there is no file";
  file.begin(folder / "m", "{\"step\":1}\n");
  file.add({{"step", 2}});
  EXPECT_EQ(file.text(), "{\"step\":1}\n{\"step\":2}\n");
  EXPECT_EQ(read_bytes(folder / "m"), file.text());
}

TEST(MetricsFile, LinesThatFoundNoRoomComeLater) {
  const TempFolder folder;
  MetricsFile file;
  file.begin(folder / "m", "");
  const std::string wanted = "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n";
  {
    const test::FileSizeLimit full(15);  // the second line is cut in the middle
    for (const int step : {1, 2, 3}) file.add({{"step", step}});
    EXPECT_EQ(file.text(), wanted);
    EXPECT_TRUE(test::says(test::error_of([&] { file.finish(); }), "m: cannot be written: File too large"));
  }
  file.finish();
  EXPECT_EQ(read_bytes(folder / "m"), wanted);
}

}  // namespace
}  // namespace bezel::train
