#include <algorithm>

#include "bezel/train/config_readers.h"
#include "bezel/train/stopping.h"

namespace bezel::train {

// With or without "eval_", as transformers takes it; accuracy is LLaMA-Factory's name, mean_token_accuracy TRL's.
void read_best_metric(TrainConfig& config, const ConfigValue& value) {
  std::string name = value.lower_text();
  if (!name.starts_with("eval_")) name.insert(0, "eval_");
  if (name == "eval_accuracy" || name == "eval_token_accuracy") name = metric_name(BestMetric::kTokenAccuracy);
  const auto names = metric_names();
  const auto found = std::ranges::find(names, name);
  if (found == names.end()) value.fail("loss, mean_token_accuracy or exact_match");
  config.metric_for_best_model = static_cast<BestMetric>(found - names.begin());
}

std::string write_best_metric(const TrainConfig& config) {
  return std::string(metric_name(config.metric_for_best_model));
}

}  // namespace bezel::train
