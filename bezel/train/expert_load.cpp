#include "bezel/train/expert_load.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "bezel/nn/weight_site.h"

namespace bezel::train {

ExpertLoadMeter::ExpertLoadMeter(const gemma4::Model& model) {
  for (const nn::WeightSite& site : nn::weight_sites(*model))
    if (site.mixture != nullptr && (mixtures_.empty() || mixtures_.back().second != site.mixture))
      mixtures_.emplace_back(site.module, site.mixture);
}

std::vector<LayerLoad> ExpertLoadMeter::take() {
  std::vector<LayerLoad> layers;
  for (const auto& [name, mixture] : mixtures_) {
    const auto found = counting_.counts().find(mixture);
    if (found == counting_.counts().end()) continue;
    const auto sum = std::accumulate(found->second.begin(), found->second.end(), std::int64_t{0});
    if (sum == 0) continue;
    LayerLoad& layer = layers.emplace_back(LayerLoad{name, {}});
    for (const std::int64_t count : found->second)
      layer.shares.push_back(static_cast<double>(count) / static_cast<double>(sum));
  }
  counting_.clear();
  return layers;
}

io::Json to_json(const std::vector<LayerLoad>& layers) {
  io::Json out = io::Json::object();
  for (const LayerLoad& layer : layers)
    for (const double share : layer.shares) out[layer.name].push_back(std::round(share * 1e6) / 1e6);
  return out;
}

}  // namespace bezel::train
