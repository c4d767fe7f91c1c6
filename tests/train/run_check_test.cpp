#include "bezel/train/run_check.h"

#include <gtest/gtest.h>

#include "bezel/error.h"
#include "support/temp_folder.h"

namespace bezel::train {
namespace {

using test::error_of;
using test::says;

constexpr ScheduleKind kKinds[] = {ScheduleKind::kCosine, ScheduleKind::kLinear, ScheduleKind::kConstant,
                                   ScheduleKind::kConstantWithWarmup};

std::int64_t updates_with_a_rate(const TrainConfig& config, std::int64_t total_steps) {
  const Schedule schedule = make_schedule(config, total_steps);
  std::int64_t count = 0;
  for (std::int64_t step = 0; step < total_steps; ++step) count += schedule.rate(step) > 0 ? 1 : 0;
  return count;
}

TEST(RunCheck, DefaultsGiveEveryUpdateOfAShortRunARate) {
  TrainConfig config;
  for (const ScheduleKind kind : kKinds) {
    config.lr_scheduler = kind;
    for (std::int64_t steps = 1; steps < kFewUpdates; ++steps) EXPECT_EQ(updates_with_a_rate(config, steps), steps);
  }
}

TEST(RunCheck, DefaultWarmUpOfLongerRunsIsThreePercent) {
  const TrainConfig config;
  EXPECT_EQ(make_schedule(config, 10).warmup_steps, 1);
  EXPECT_EQ(make_schedule(config, 100).warmup_steps, 3);
  EXPECT_EQ(make_schedule(config, 101).warmup_steps, 4);
  EXPECT_EQ(make_schedule(config, 100).rate(0), 0.0);
  EXPECT_TRUE(check_learns(config, 10).empty());
}

TEST(RunCheck, AGivenRatioIsKeptButLeavesOneUpdate) {
  TrainConfig config;
  config.warmup_ratio = 0.1;
  EXPECT_EQ(make_schedule(config, 5).warmup_steps, 1);
  EXPECT_EQ(make_schedule(config, 1).warmup_steps, 0);
  EXPECT_EQ(make_schedule(config, 1).rate(0), config.learning_rate);
  const std::vector<std::string> warnings = check_learns(config, 1);
  ASSERT_EQ(warnings.size(), 2u);
  EXPECT_TRUE(says(warnings[0], "warmup_ratio: 1 of 1 update"));
  config.warmup_ratio = 1.0;
  EXPECT_EQ(make_schedule(config, 40).warmup_steps, 39);
  EXPECT_EQ(make_schedule(config, 40).rate(39), config.learning_rate);
  EXPECT_EQ(check_learns(config, 40).size(), 1u);
}

TEST(RunCheck, AWarmUpAsLongAsTheRunIsRefused) {
  TrainConfig config;
  for (const std::int64_t steps : {1, 12, 30}) {
    config.warmup_steps = steps;
    const std::string error = error_of([&] { check_learns(config, steps); });
    EXPECT_TRUE(says(error, "warmup_steps " + std::to_string(steps)));
    EXPECT_TRUE(says(error, "write warmup_steps: " + std::to_string(steps / 10)));
    EXPECT_EQ(error_of([&] { check_learns(config, steps + 1); }), "");
  }
  config.warmup_steps = 0;
  EXPECT_EQ(error_of([&] { check_learns(config, 1); }), "");
}

TEST(RunCheck, ARateOfZeroIsRefused) {
  TrainConfig config;
  config.learning_rate = 0;
  try {
    check_learns(config, 100);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kConfig);
    EXPECT_TRUE(says(error.what(), "learning_rate 0"));
  }
}

TEST(RunCheck, FewUpdatesAreAWarningThatSaysWhatToRaise) {
  TrainConfig config;
  ASSERT_EQ(check_learns(config, 9).size(), 1u);
  EXPECT_TRUE(says(check_learns(config, 9)[0], "9 updates"));
  EXPECT_TRUE(says(check_learns(config, 9)[0], "num_train_epochs"));
  EXPECT_FALSE(says(check_learns(config, 9)[0], "packing"));
  config.packing = true;
  EXPECT_TRUE(says(check_learns(config, 9)[0], "packing: false"));
  config.max_steps = 9;
  EXPECT_TRUE(says(check_learns(config, 9)[0], "raise max_steps"));
}

}  // namespace
}  // namespace bezel::train
