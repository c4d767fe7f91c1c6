#include "bezel/train/intervals.h"

#include <gtest/gtest.h>

namespace bezel::train {
namespace {

Intervals of(const std::string& yaml, std::int64_t total_steps = 100, std::int64_t steps_per_epoch = 40) {
  return make_intervals(parse_train_config(yaml, "c.yaml", {}, false), total_steps, steps_per_epoch);
}

TEST(Intervals, DefaultsAreEachEpochAndAHundredUpdates) {
  const Intervals intervals = of("");
  EXPECT_EQ(intervals.eval, 40);
  EXPECT_EQ(intervals.save, 100);
  EXPECT_EQ(intervals.logging, 1);
}

// transformers' TrainerState.compute_steps: ceil(max_steps * value) below 1.
TEST(Intervals, BelowOneIsAShareOfAllUpdates) {
  const Intervals intervals = of("eval_steps: 0.125\nsave_steps: 0.5\nlogging_steps: 0.011\n");
  EXPECT_EQ(intervals.eval, 13);
  EXPECT_EQ(intervals.save, 50);
  EXPECT_EQ(intervals.logging, 2);
}

TEST(Intervals, TimesAnEpoch) {
  const Intervals intervals = of("evals_per_epoch: 3\nsaves_per_epoch: 1\n");
  EXPECT_EQ(intervals.eval, 14);
  EXPECT_EQ(intervals.save, 40);
  EXPECT_EQ(of("evals_per_epoch: 99").eval, 1);
  EXPECT_EQ(of("evals_per_epoch: 0\nsaves_per_epoch: 0\n").eval, 0);
}

TEST(Intervals, AStrategyCountsBeforeTheSteps) {
  EXPECT_EQ(of("eval_strategy: epoch\neval_steps: 7\n").eval, 40);
  EXPECT_EQ(of("evaluation_strategy: 'no'\neval_steps: 7\n").eval, 0);
  EXPECT_EQ(of("eval_strategy: no\n").eval, 0) << "a boolean to readers of YAML 1.1";
  EXPECT_EQ(of("eval_strategy: steps\neval_steps: 7\n").eval, 7);
  EXPECT_EQ(of("eval_strategy: steps\nlogging_steps: 5\n").eval, 5);
  EXPECT_EQ(of("save_strategy: epoch\nsave_steps: 7\n").save, 40);
  EXPECT_EQ(of("save_strategy: \"no\"\n").save, 0);
  EXPECT_EQ(of("logging_strategy: epoch\n").logging, 40);
  EXPECT_EQ(of("logging_strategy: no\n").logging, 100);
}

TEST(Intervals, TheBestAreSavedWithOrWithoutOthers) {
  EXPECT_TRUE(of("").save_best);
  EXPECT_TRUE(of("save_strategy: best\n").save_best);
  EXPECT_EQ(of("save_strategy: best\n").save, 0);
  EXPECT_FALSE(of("save_strategy: no\n").save_best);
  EXPECT_FALSE(of("save_steps: 0\n").save_best);
}

TEST(Intervals, TheFirstEvaluationMayWait) {
  EXPECT_EQ(of("eval_delay: 1.5\n").first_eval, 60) << "epochs";
  EXPECT_EQ(of("eval_delay: 7\neval_strategy: steps\neval_steps: 2\n").first_eval, 7);
}

TEST(Intervals, EvaluationIsAskedForByName) {
  const auto asks = [](const std::string& yaml) {
    return asks_for_evaluation(parse_train_config(yaml, "c.yaml", {}, false));
  };
  EXPECT_FALSE(asks(""));
  EXPECT_FALSE(asks("eval_strategy: no\neval_steps: 5\n"));
  EXPECT_TRUE(asks("eval_strategy: steps"));
  EXPECT_TRUE(asks("evals_per_epoch: 4"));
}

}  // namespace
}  // namespace bezel::train
