#include "bezel/train/schedule.h"

#include <gtest/gtest.h>

namespace bezel::train {
namespace {

TEST(Schedule, FirstUpdateOfAWarmUpHasRateZero) {
  for (const ScheduleKind kind : {ScheduleKind::kCosine, ScheduleKind::kLinear, ScheduleKind::kConstantWithWarmup})
    EXPECT_EQ((Schedule{kind, 1e-3, 4, 20}.rate(0)), 0.0);
}

TEST(Schedule, ClimbsInEqualStepsToThePeak) {
  const Schedule schedule{ScheduleKind::kCosine, 8.0, 4, 20};
  EXPECT_DOUBLE_EQ(schedule.rate(1), 2.0);
  EXPECT_DOUBLE_EQ(schedule.rate(3), 6.0);
  EXPECT_DOUBLE_EQ(schedule.rate(4), 8.0);
}

TEST(Schedule, CosineIsHalfwayDownHalfwayThrough) {
  const Schedule schedule{ScheduleKind::kCosine, 2.0, 4, 20};
  EXPECT_NEAR(schedule.rate(12), 1.0, 1e-15);
  EXPECT_NEAR(schedule.rate(8), 2.0 * 0.85355339059327373, 1e-15);  // (1 + cos 45°) / 2
  EXPECT_NEAR(schedule.rate(20), 0.0, 1e-15);
}

TEST(Schedule, LinearReachesZeroAndStaysThere) {
  const Schedule schedule{ScheduleKind::kLinear, 1.0, 0, 10};
  EXPECT_DOUBLE_EQ(schedule.rate(0), 1.0);
  EXPECT_DOUBLE_EQ(schedule.rate(9), 0.1);
  EXPECT_EQ(schedule.rate(10), 0.0);
  EXPECT_EQ(schedule.rate(11), 0.0);
}

// transformers' get_constant_schedule has no argument for a warm-up.
TEST(Schedule, ConstantIsThePeakFromTheFirstUpdate) {
  for (const std::int64_t step : {0, 1, 9, 10})
    EXPECT_EQ((Schedule{ScheduleKind::kConstant, 0.5, 4, 10}.rate(step)), 0.5);
}

// step / max(1, warmup) below warmup, then 1.
TEST(Schedule, ConstantWithWarmUpClimbsAndStays) {
  const Schedule schedule{ScheduleKind::kConstantWithWarmup, 0.5, 4, 10};
  EXPECT_EQ(schedule.rate(0), 0.0);
  EXPECT_DOUBLE_EQ(schedule.rate(1), 0.125);
  EXPECT_DOUBLE_EQ(schedule.rate(3), 0.375);
  EXPECT_EQ(schedule.rate(4), 0.5);
  EXPECT_EQ(schedule.rate(9), 0.5);
}

TEST(Schedule, WarmUpLengthIsRoundedUp) {
  EXPECT_EQ(warmup_steps_from_ratio(0.03, 100), 3);
  EXPECT_EQ(warmup_steps_from_ratio(0.03, 101), 4);
  EXPECT_EQ(warmup_steps_from_ratio(0.03, 1), 1);
  EXPECT_EQ(warmup_steps_from_ratio(0.0, 1000), 0);
}

TEST(Schedule, AllWarmUpNeverDividesByZero) {
  const Schedule schedule{ScheduleKind::kCosine, 1.0, 10, 10};
  EXPECT_DOUBLE_EQ(schedule.rate(9), 0.9);
  EXPECT_DOUBLE_EQ(schedule.rate(10), 1.0);
}

}  // namespace
}  // namespace bezel::train
