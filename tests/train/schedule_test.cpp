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

// What follows is computed by hand from the formulas in transformers/optimization.py; parity.schedules compares with
// it.
TEST(Schedule, RestartsBeginAtThePeakAgain) {
  const Schedule schedule{ScheduleKind::kCosineWithRestarts, 2.0, 0, 8, {.num_cycles = 2}};
  EXPECT_DOUBLE_EQ(schedule.rate(0), 2.0);
  EXPECT_NEAR(schedule.rate(2), 1.0, 1e-15);
  EXPECT_DOUBLE_EQ(schedule.rate(4), 2.0);
  EXPECT_EQ(schedule.rate(8), 0.0);
}

TEST(Schedule, AFloorIsARateOrAShareOfThePeak) {
  const Schedule share{ScheduleKind::kCosineWithMinLr, 2.0, 0, 10, {.min_lr_rate = 0.1}};
  EXPECT_DOUBLE_EQ(share.rate(0), 2.0);
  EXPECT_NEAR(share.rate(5), 2.0 * 0.55, 1e-15);
  EXPECT_NEAR(share.rate(10), 0.2, 1e-15);
  const Schedule rate{ScheduleKind::kCosineWithMinLr, 2.0, 0, 10, {.min_lr = 0.2}};
  for (std::int64_t step = 0; step <= 10; ++step) EXPECT_NEAR(rate.rate(step), share.rate(step), 1e-15);
}

TEST(Schedule, AWarmUpMayBeginAboveZero) {
  const Schedule plain{ScheduleKind::kCosineWarmupWithMinLr, 1.0, 4, 8, {.min_lr_rate = 0.0}};
  EXPECT_DOUBLE_EQ(plain.rate(0), 0.25);
  EXPECT_DOUBLE_EQ(plain.rate(3), 1.0);
  EXPECT_NEAR(plain.rate(5), 0.5, 1e-15);  // progress (5 - 4 + 1) / 4
  const Schedule begun{ScheduleKind::kCosineWarmupWithMinLr, 1.0, 4, 8, {.min_lr_rate = 0.0, .warmup_lr_rate = 0.4}};
  EXPECT_DOUBLE_EQ(begun.rate(0), 0.4);
  EXPECT_DOUBLE_EQ(begun.rate(1), 0.6);
  EXPECT_DOUBLE_EQ(begun.rate(3), 1.0);
}

TEST(Schedule, PolynomialFallsToItsEnd) {
  const Schedule schedule{ScheduleKind::kPolynomial, 1.0, 0, 10, {.lr_end = 0.1, .power = 2.0}};
  EXPECT_DOUBLE_EQ(schedule.rate(0), 1.0);
  EXPECT_DOUBLE_EQ(schedule.rate(5), 0.325);
  EXPECT_DOUBLE_EQ(schedule.rate(10), 0.1);
  EXPECT_DOUBLE_EQ(schedule.rate(11), 0.1);
  const Schedule only_warmup{ScheduleKind::kPolynomial, 1.0, 10, 10, {}};
  EXPECT_DOUBLE_EQ(only_warmup.rate(10), 1.0) << "transformers divides by zero";
}

TEST(Schedule, InverseSquareRootHasTheWarmUpsLengthOrTenThousandForItsScale) {
  const Schedule schedule{ScheduleKind::kInverseSqrt, 1.0, 4, 100, {}};
  EXPECT_DOUBLE_EQ(schedule.rate(4), 1.0);
  EXPECT_DOUBLE_EQ(schedule.rate(16), 0.5);
  EXPECT_DOUBLE_EQ((Schedule{ScheduleKind::kInverseSqrt, 1.0, 0, 100, {.timescale = 9}}.rate(27)), 0.5);
  EXPECT_DOUBLE_EQ((Schedule{ScheduleKind::kInverseSqrt, 1.0, 0, 100, {}}.rate(30'000)), 0.5);
}

TEST(Schedule, StaysAndThenDecays) {
  const Schedule schedule{ScheduleKind::kWarmupStableDecay,
                          1.0,
                          2,
                          10,
                          {.num_decay_steps = 4, .min_lr_ratio = 0.2, .decay_type = "linear"}};
  EXPECT_EQ(schedule.stable_steps(), 4);
  EXPECT_DOUBLE_EQ(schedule.rate(0), 0.2);
  EXPECT_DOUBLE_EQ(schedule.rate(1), 0.6);
  for (const std::int64_t step : {2, 5, 6}) EXPECT_DOUBLE_EQ(schedule.rate(step), 1.0);
  EXPECT_DOUBLE_EQ(schedule.rate(8), 0.6);
  EXPECT_DOUBLE_EQ(schedule.rate(10), 0.2);
  Schedule root = schedule;
  root.options.decay_type = "1-sqrt";
  EXPECT_DOUBLE_EQ(root.rate(7), 0.6);  // 1 - sqrt(1 / 4), between 0.2 and 1
}

}  // namespace
}  // namespace bezel::train
