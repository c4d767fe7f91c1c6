#pragma once

#include <map>
#include <string>

namespace bezel::train {

/// A mean in the making.
struct MetricSum {
  double sum = 0.0;
  double weight = 0.0;
};

/// What an objective measures beside its loss, by TRL's names: "rewards/margins".
using Metrics = std::map<std::string, MetricSum>;

inline void add_metrics(Metrics& sums, const Metrics& more) {
  for (const auto& [name, metric] : more) {
    sums[name].sum += metric.sum;
    sums[name].weight += metric.weight;
  }
}

/// The means. Where answers are labelled one by one, the margin is the difference of the two rewards.
inline std::map<std::string, double> metric_means(const Metrics& sums) {
  std::map<std::string, double> means;
  for (const auto& [name, metric] : sums)
    if (metric.weight > 0) means[name] = metric.sum / metric.weight;
  if (means.contains("rewards/chosen") && means.contains("rewards/rejected"))
    means.try_emplace("rewards/margins", means["rewards/chosen"] - means["rewards/rejected"]);
  return means;
}

}  // namespace bezel::train
