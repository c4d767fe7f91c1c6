#include "bezel/gemma4/layer_plan.h"

#include <gtest/gtest.h>

namespace bezel::gemma4 {
namespace {

using enum QueryRows;

constexpr LayerType kS = LayerType::kSliding, kF = LayerType::kFull;

TextConfig config_of(const std::vector<LayerType>& types, std::int64_t num_shared) {
  TextConfig config;
  config.num_layers = static_cast<std::int64_t>(types.size());
  config.num_kv_shared_layers = num_shared;
  for (const LayerType type : types) config.layers.push_back({.type = type});
  share_keys_and_values(config, "config.json");
  return config;
}

template <typename Value>
std::vector<Value> column(const std::vector<LayerPlan>& plans, Value LayerPlan::*member) {
  std::vector<Value> values;
  for (const LayerPlan& plan : plans) values.push_back(plan.*member);
  return values;
}

// The last layers read keys and values of the last layer of their type that has its own.
TEST(LayerPlan, SharedKeysComeFromTheLastStoringLayerOfTheType) {
  const auto plans = plan_layers(config_of({kS, kF, kS, kS, kF, kS, kF}, 3), false);
  EXPECT_EQ(column(plans, &LayerPlan::kv_layer), (std::vector<std::int64_t>{0, 1, 2, 3, 1, 3, 1}));
  EXPECT_EQ(column(plans, &LayerPlan::shares_kv), (std::vector<bool>{false, true, false, true, false, false, false}));
  EXPECT_EQ(column(plans, &LayerPlan::type), (std::vector<LayerType>{kS, kF, kS, kS, kF, kS, kF}));
  EXPECT_TRUE(plans[3].owns_kv());
  EXPECT_FALSE(plans[4].owns_kv());
  EXPECT_EQ(column(plans, &LayerPlan::rows), std::vector<QueryRows>(7, kAll));
}

TEST(LayerPlan, QueriesAreGatheredInTheLastLayerWithKeysOfItsOwn) {
  EXPECT_EQ(column(plan_layers(config_of({kS, kF, kS, kF}, 2), true), &LayerPlan::rows),
            (std::vector<QueryRows>{kAll, kGather, kGathered, kGathered}));
  EXPECT_EQ(column(plan_layers(config_of({kS, kF, kS}, 0), true), &LayerPlan::rows),
            (std::vector<QueryRows>{kAll, kAll, kGather}));
}

}  // namespace
}  // namespace bezel::gemma4
