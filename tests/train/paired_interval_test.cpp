#include "bezel/train/paired_interval.h"

#include <cmath>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace bezel::train {
namespace {

// Published two-sided 95 % and 99 % points.
TEST(StudentT, IsTheTable) {
  const std::vector<std::pair<long, double>> table = {{1, 12.706205}, {2, 4.302653},  {3, 3.182446},  {10, 2.228139},
                                                      {29, 2.045230}, {30, 2.042272}, {120, 1.979930}};
  for (const auto& [degrees, value] : table) EXPECT_NEAR(student_t(0.95, degrees), value, 1e-5) << degrees;
  EXPECT_NEAR(student_t(0.99, 5), 4.032143, 1e-5);
  EXPECT_NEAR(student_t(0.95, 100'000'000), 1.959964, 1e-4);
}

// With equal weights it is the paired t-test's interval: differences 1, 2, 3, 4 have mean 2.5, deviation 1.290994.
TEST(PairedInterval, IsThatOfThePairedTTestForEqualWeights) {
  const std::vector<PairedSums> samples = {{0, 2, 2}, {5, 9, 2}, {-1, 5, 2}, {3, 11, 2}};
  EXPECT_DOUBLE_EQ(paired_difference(samples), 2.5);
  const auto interval = paired_interval(samples);
  ASSERT_TRUE(interval);
  const double half = 3.182446 * 1.290994 / 2;
  EXPECT_NEAR(interval->low, 2.5 - half, 1e-4);
  EXPECT_NEAR(interval->high, 2.5 + half, 1e-4);
}

TEST(PairedInterval, NeedsTwoSamples) {
  const std::vector<PairedSums> one = {{1, 2, 3}};
  EXPECT_FALSE(paired_interval(one));
  EXPECT_DOUBLE_EQ(paired_difference(one), 1.0 / 3);
}

// Of many intervals at 90 % some 90 % hold the truth, with lengths that differ and tokens that hang together.
TEST(PairedInterval, CoversTheTruthAsOftenAsItSays) {
  std::mt19937 random(7);
  std::normal_distribution<double> normal;
  std::uniform_int_distribution<int> length(5, 40);
  int covered = 0;
  constexpr int kRuns = 2000;
  for (int run = 0; run < kRuns; ++run) {
    std::vector<PairedSums> samples;
    for (int i = 0; i < 30; ++i) {
      const double tokens = length(random), base = normal(random);
      samples.push_back({tokens * base, tokens * (base - 0.5 + 0.3 * normal(random)), tokens});
    }
    const auto interval = paired_interval(samples, 0.9);
    covered += interval->low <= -0.5 && -0.5 <= interval->high;
  }
  EXPECT_NEAR(static_cast<double>(covered) / kRuns, 0.9, 0.03);
}

}  // namespace
}  // namespace bezel::train
