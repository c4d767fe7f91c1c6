#include "bezel/train/prefix_plan.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "bezel/data/shared_prefix.h"

namespace bezel::train {
namespace {

// A micro-batch that grows.
struct Growing {
  std::vector<std::size_t> samples;
  std::size_t tokens = 0, soft_tokens = 0, strangers = 0;

  bool has_space(std::size_t more, std::size_t more_soft, const MicroBatchLimits& limits) const {
    return tokens + more <= limits.tokens && soft_tokens + more_soft <= limits.soft_tokens;
  }
  void add(std::size_t sample, std::size_t more, std::size_t more_soft) {
    samples.push_back(sample);
    tokens += more;
    soft_tokens += more_soft;
  }
};

// What `sample` begins alike by with one of the micro-batch.
std::size_t most_common(const StepSamples& samples, const Growing& batch, std::size_t sample) {
  std::size_t most = 0;
  for (const std::size_t other : batch.samples) most = std::max(most, samples.common(sample, other));
  return most < data::kLeastShared ? 0 : most;
}

std::string percent_text(double share) { return std::to_string(std::lround(100 * share)) + " %"; }

}  // namespace

StepDivision divide_step(const StepSamples& samples, const MicroBatchLimits& limits) {
  std::vector<Growing> batches;
  for (std::size_t sample = 0; sample < samples.count; ++sample) {
    const std::size_t tokens = samples.tokens(sample), soft = samples.soft_tokens(sample, 0);
    Growing* home = nullptr;
    std::size_t most = 0;
    for (Growing& batch : batches) {
      const std::size_t common = most_common(samples, batch, sample);
      if (common <= most || !batch.has_space(tokens - common, samples.soft_tokens(sample, common), limits)) continue;
      home = &batch;
      most = common;
    }
    if (home != nullptr) {
      home->add(sample, tokens - most, samples.soft_tokens(sample, most));
      continue;
    }
    const auto open = std::ranges::find_if(batches, [&](const Growing& batch) {
      return batch.strangers < limits.strangers && batch.has_space(tokens, soft, limits);
    });
    Growing& batch = open == batches.end() ? batches.emplace_back() : *open;
    ++batch.strangers;
    batch.add(sample, tokens, soft);
  }
  StepDivision division;
  for (Growing& batch : batches) {
    division.num_computed += batch.tokens;
    division.micro_batches.push_back(std::move(batch.samples));
  }
  return division;
}

std::vector<std::size_t> group_by_prefix(const data::Dataset& data, std::span<const std::size_t> samples) {
  std::vector<std::size_t> order(samples.begin(), samples.end());
  std::ranges::sort(order);
  order.erase(std::ranges::unique(order).begin(), order.end());
  std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) { return data.prefix(a) < data.prefix(b); });
  std::vector<std::size_t> common(order.size() + 1, 0);  // of each with the one before
  for (std::size_t i = 1; i < order.size(); ++i) common[i] = data.prefix(order[i]).common(data.prefix(order[i - 1]));
  std::vector<std::size_t> group_of(data.size(), 0);
  std::size_t group = 0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    // The longest beginning that this sample or the one before has in common with any.
    const std::size_t longest = std::max({common[i], common[i + 1], i > 0 ? common[i - 1] : 0});
    if (i > 0 && 2 * common[i] < std::max<std::size_t>(1, longest)) ++group;
    group_of[order[i]] = group;
  }
  return group_of;
}

std::vector<std::size_t> gather_groups(std::span<const std::size_t> samples, std::span<const std::size_t> group_of,
                                       std::size_t most, std::uint64_t seed, std::uint64_t epoch) {
  std::vector<std::vector<std::size_t>> runs;
  std::vector<std::size_t> open(group_of.size(), SIZE_MAX);  // the run of each group that has space left
  for (const std::size_t sample : samples) {
    std::size_t& run = open[group_of[sample]];
    if (run == SIZE_MAX || runs[run].size() >= most) {
      run = runs.size();
      runs.emplace_back();
    }
    runs[run].push_back(sample);
  }
  std::vector<std::size_t> gathered;
  for (const std::size_t run : data::epoch_order(runs.size(), seed, epoch))
    gathered.insert(gathered.end(), runs[run].begin(), runs[run].end());
  return gathered;
}

std::string prefix_obstacle(const TrainConfig& config) {
  if (config.lora.dropout > 0) return "lora_dropout draws another mask for each sample";
  if (config.neftune_noise_alpha > 0) return "neftune_noise_alpha draws other noise for each sample";
  return "";
}

PrefixPlan plan_prefixes(const TrainConfig& config, double plain, double grouped) {
  PrefixPlan plan{.groups = grouped - plain >= kWorthSharing, .saved = std::max(plain, grouped)};
  if (!plan.groups) plan.saved = plain;
  plan.shares = config.share_prefixes.value_or(plan.saved >= kWorthSharing);
  const bool pays = plan.saved >= kWorthSharing;
  const std::string obstacle = prefix_obstacle(config);
  if (plan.shares && !obstacle.empty()) {
    plan.shares = false;
    plan.note = "share_prefixes is off: " + obstacle + "; without it " + percent_text(plan.saved) +
                " of the tokens, which samples of a step begin alike by, need not be computed";
  } else if (plan.shares && pays) {
    plan.note = "share_prefixes: " + percent_text(plan.saved) +
                " of the tokens need not be computed, since samples of a step begin alike" +
                (plan.groups ? "; such samples stay together when shuffled" : "");
  }
  plan.groups = plan.groups && plan.shares;
  return plan;
}

}  // namespace bezel::train
