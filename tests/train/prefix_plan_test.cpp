#include "bezel/train/prefix_plan.h"

#include <algorithm>
#include <set>

#include <gtest/gtest.h>

namespace bezel::train {
namespace {

using Parts = std::vector<std::vector<std::size_t>>;

// Samples of 100 tokens; those of one family begin alike by 60.
StepSamples families(const std::vector<int>& family) {
  return {.count = family.size(),
          .common = [family](std::size_t a, std::size_t b) -> std::size_t { return family[a] == family[b] ? 60 : 0; },
          .tokens = [](std::size_t) -> std::size_t { return 100; },
          .soft_tokens = [](std::size_t, std::size_t from) -> std::size_t { return from == 0 ? 10 : 0; }};
}

TEST(DivideStep, PutsSamplesThatShareTogether) {
  const StepDivision division =
      divide_step(families({1, 2, 1, 2, 1}), {.tokens = 200, .soft_tokens = 100, .strangers = 1});
  EXPECT_EQ(division.micro_batches, (Parts{{0, 2, 4}, {1, 3}}));
  EXPECT_EQ(division.num_computed, 180u + 140u);
}

TEST(DivideStep, KeepsToTheLimits) {
  const auto parts = [](const MicroBatchLimits& limits) {
    return divide_step(families({1, 1, 1, 2, 3}), limits).micro_batches;
  };
  EXPECT_EQ(parts({.tokens = 150, .soft_tokens = 100, .strangers = 9}), (Parts{{0, 1}, {2}, {3}, {4}}));
  EXPECT_EQ(parts({.tokens = 400, .soft_tokens = 100, .strangers = 9}), (Parts{{0, 1, 2, 3, 4}}));
  EXPECT_EQ(parts({.tokens = 1000, .soft_tokens = 100, .strangers = 2}), (Parts{{0, 1, 2, 3}, {4}}));
  EXPECT_EQ(parts({.tokens = 1000, .soft_tokens = 10, .strangers = 9}), (Parts{{0, 1, 2}, {3}, {4}}));
}

TEST(GatherGroups, KeepsRunsOfAGroupTogetherInAnyEpoch) {
  std::vector<std::size_t> samples, group_of;
  for (std::size_t i = 0; i < 60; ++i) samples.push_back(i), group_of.push_back(i % 6);
  std::set<std::vector<std::size_t>> orders;
  for (std::uint64_t epoch = 0; epoch < 3; ++epoch) {
    const auto order = gather_groups(samples, group_of, 5, 7, epoch);
    EXPECT_EQ(order, gather_groups(samples, group_of, 5, 7, epoch));
    orders.insert(order);
    for (std::size_t i = 0; i < order.size(); ++i) EXPECT_EQ(group_of[order[i]], group_of[order[i - i % 5]]);
    auto sorted = order;
    std::ranges::sort(sorted);
    EXPECT_EQ(sorted, samples);
  }
  EXPECT_EQ(orders.size(), 3u);
}

TEST(PlanPrefixes, SharesWhereItPays) {
  TrainConfig config;
  EXPECT_FALSE(plan_prefixes(config, 0.05, 0.08).shares);
  EXPECT_TRUE(plan_prefixes(config, 0.3, 0.3).shares);
  EXPECT_FALSE(plan_prefixes(config, 0.3, 0.35).groups);  // the order stays where it gains little
  EXPECT_TRUE(plan_prefixes(config, 0.05, 0.5).groups);
  config.share_prefixes = true;
  EXPECT_TRUE(plan_prefixes(config, 0.0, 0.0).shares);
  config.share_prefixes = false;
  EXPECT_FALSE(plan_prefixes(config, 0.5, 0.5).shares);
}

TEST(PlanPrefixes, DropoutTurnsAutoOffAndSaysSoWhereItWouldPay) {
  TrainConfig config;
  config.lora.dropout = 0.1;
  const PrefixPlan plan = plan_prefixes(config, 0.4, 0.7);
  EXPECT_FALSE(plan.shares);
  EXPECT_FALSE(plan.groups);
  EXPECT_NE(plan.note.find("lora_dropout"), std::string::npos);
  EXPECT_NE(plan.note.find("70 %"), std::string::npos);
  EXPECT_EQ(plan_prefixes(config, 0.01, 0.02).note, "");
}

TEST(PlanEvalPrefixes, SharesWhereItPays) {
  EXPECT_FALSE(plan_eval_prefixes(std::nullopt, 0.05).shares);
  EXPECT_TRUE(plan_eval_prefixes(std::nullopt, 0.3).shares);
  EXPECT_NE(plan_eval_prefixes(std::nullopt, 0.3).note.find("30 %"), std::string::npos);
  EXPECT_TRUE(plan_eval_prefixes(true, 0.0).shares);
  EXPECT_EQ(plan_eval_prefixes(true, 0.0).note, "");
  EXPECT_FALSE(plan_eval_prefixes(false, 0.5).shares);
  EXPECT_EQ(plan_eval_prefixes(false, 0.5).note, "");
}

}  // namespace
}  // namespace bezel::train
