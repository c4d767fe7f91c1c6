#include "bezel/train/stopping.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

namespace bezel::train {
namespace {

/// After how many of these evaluations a run stops; 0: never.
int stops_after(const std::vector<double>& values, const StoppingOptions& options, TrainerState* state = nullptr) {
  TrainerState own;
  TrainerState& now = state != nullptr ? *state : own;
  for (std::size_t i = 0; i < values.size(); ++i) {
    now.steps_done = static_cast<std::int64_t>(i + 1);
    count_evaluation(now, values[i], options);
    if (stops_early(now, options)) return static_cast<int>(i + 1);
  }
  return 0;
}

// Worked out by hand from transformers' EarlyStoppingCallback; parity.stopping runs it.
TEST(Stopping, PatienceCountsEvaluationsInARowWithoutGain) {
  EXPECT_EQ(stops_after({5, 4, 4.5, 4.2, 3.9}, {.patience = 2}), 4);
  EXPECT_EQ(stops_after({5, 4, 4.5, 3.9, 4.2, 3.8}, {.patience = 2}), 0);
  EXPECT_EQ(stops_after({5, 5}, {.patience = 1}), 2) << "as good as the best is no gain";
  EXPECT_EQ(stops_after({5, 6, 7, 8}, {}), 0) << "without patience";
}

TEST(Stopping, WhatIsLessThanTheThresholdIsNoGainButTheBestAllTheSame) {
  TrainerState state;
  EXPECT_EQ(stops_after({5, 4.95, 4.9}, {.patience = 2, .threshold = 0.06}, &state), 3);
  EXPECT_EQ(state.best->value, 4.9);
  EXPECT_EQ(state.best->step, 3);
}

TEST(Stopping, SharesAreBetterWhenGreater) {
  TrainerState state;
  const StoppingOptions options{.metric = BestMetric::kExactMatch, .patience = 3};
  EXPECT_EQ(stops_after({0.1, 0.4, 0.3, 0.4}, options, &state), 0);
  EXPECT_EQ(state.best->step, 2);
  EXPECT_EQ(state.evals_without_gain, 2);
}

TEST(Stopping, NumbersThatAreNoneAreNeverTheBest) {
  TrainerState state;
  EXPECT_FALSE(count_evaluation(state, NAN, {}));
  EXPECT_FALSE(state.best.has_value());
  EXPECT_TRUE(count_evaluation(state, 3.0, {}));
  EXPECT_FALSE(count_evaluation(state, INFINITY, {}));
  EXPECT_EQ(state.evals_without_gain, 1);
}

}  // namespace
}  // namespace bezel::train
