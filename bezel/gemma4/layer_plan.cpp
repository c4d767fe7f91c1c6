#include "bezel/gemma4/layer_plan.h"

#include <array>

namespace bezel::gemma4 {

std::vector<LayerPlan> plan_layers(const TextConfig& config, bool gathers) {
  const std::int64_t last_own = config.first_kv_shared_layer() - 1;
  std::array<std::int64_t, 2> storing{};  // by LayerType, the last layer whose keys and values are shared
  std::vector<LayerPlan> plans;
  for (std::int64_t i = 0; i < config.num_layers; ++i) {
    const TextLayerConfig& layer = config.layers[static_cast<std::size_t>(i)];
    std::int64_t& stored = storing[static_cast<std::size_t>(layer.type)];
    LayerPlan plan{.layer = i, .type = layer.type, .kv_layer = i, .shares_kv = layer.kv_mode == KvMode::kStore};
    if (plan.shares_kv) stored = i;
    if (layer.kv_mode == KvMode::kReuse) plan.kv_layer = stored;
    if (gathers && i >= last_own) plan.rows = i == last_own ? QueryRows::kGather : QueryRows::kGathered;
    plans.push_back(plan);
  }
  return plans;
}

}  // namespace bezel::gemma4
