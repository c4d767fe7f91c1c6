#include "bezel/report/sparkline.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

namespace bezel::report {
namespace {

std::string line(const std::vector<double>& values, std::size_t width = 8) { return sparkline(values, width); }

TEST(Sparkline, GoesFromTheLeastToTheGreatest) {
  EXPECT_EQ(line({0, 1, 2, 3, 4, 5, 6, 7}), "▁▂▃▄▅▆▇█");
  EXPECT_EQ(line({5, -2}), "█▁");
  EXPECT_EQ(line({3, 3, 3}), "▄▄▄");
}

TEST(Sparkline, EachCellIsTheMeanOfItsStretch) {
  EXPECT_EQ(line({0, 2, 8, 6, 15, 15}, 3), "▁▄█");  // means 1, 7, 15
  EXPECT_EQ(line({1, 1, 1, 9}, 100), "▁▁▁█");
}

TEST(Sparkline, LeavesOutWhatIsNoNumber) {
  EXPECT_EQ(line({}), "");
  EXPECT_EQ(line({std::nan(""), INFINITY}), "");
  EXPECT_EQ(line({1, std::nan(""), 2}), "▁█");
}

}  // namespace
}  // namespace bezel::report
