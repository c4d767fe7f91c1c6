#include "bezel/nearest.h"

#include <gtest/gtest.h>

namespace bezel {
namespace {

TEST(NearestName, HasTheFewestEdits) {
  EXPECT_EQ(nearest_name("trian", {"merge", "train", "doctor"}), "train");
  EXPECT_EQ(nearest_name("bench", {"merge", "bench"}), "bench");
  EXPECT_EQ(nearest_name("doktor", {"train", "doctor"}), "doctor");
}

TEST(NearestName, IsEmptyWhenNothingIsNear) {
  EXPECT_EQ(nearest_name("zzzzz", {"train", "merge"}), "");
  EXPECT_EQ(nearest_name("xy", {"lr"}), "") << "every letter replaced";
  EXPECT_EQ(nearest_name("train", {}), "");
}

}  // namespace
}  // namespace bezel
