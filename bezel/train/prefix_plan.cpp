#include "bezel/train/prefix_plan.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "bezel/data/shared_prefix.h"
#include "bezel/train/prefix_obstacle.h"

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

std::size_t soft_tokens_of(const data::SampleSize& size) {
  std::size_t count = 0;
  for (const data::MediaCount& media : size.media.values) count += media.soft_tokens;
  return count;
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

StepSamples hashed_samples(const data::Dataset& data, std::span<const std::size_t> samples) {
  return {
      .count = samples.size(),
      .common = [&data, samples](std::size_t a,
                                 std::size_t b) { return data.prefix(samples[a]).common(data.prefix(samples[b])); },
      .tokens = [&data, samples](std::size_t i) { return data.num_tokens(samples[i]) - data.pair_prefix(samples[i]); },
      .soft_tokens = [&data, samples](
                         std::size_t i,
                         std::size_t from) { return from == 0 ? soft_tokens_of(data.sample_size(samples[i])) : 0; }};
}

StepSamples loaded_samples(std::span<const data::Sample> samples) {
  return {.count = samples.size(),
          .common = [samples](std::size_t a, std::size_t b) { return data::common_prefix(samples[a], samples[b]); },
          .tokens = [samples](std::size_t i) { return samples[i].input_ids.size(); },
          .soft_tokens =
              [samples](std::size_t i, std::size_t from) {
                const auto& types = samples[i].token_types;
                return types.size() - from -
                       static_cast<std::size_t>(std::ranges::count(std::span(types).subspan(from), 0));
              }};
}

MicroBatchLimits row_limits(const data::Dataset& data, std::span<const std::size_t> samples, std::size_t rows) {
  std::size_t tokens = 0, soft_tokens = 0;
  for (const std::size_t idx : samples) {
    tokens = std::max(tokens, data.num_tokens(idx));
    soft_tokens = std::max(soft_tokens, soft_tokens_of(data.sample_size(idx)));
  }
  return {.tokens = rows * tokens, .soft_tokens = rows * soft_tokens, .strangers = rows};
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

PrefixPlan plan_eval_prefixes(std::optional<bool> share_prefixes, double saved) {
  PrefixPlan plan{.shares = share_prefixes.value_or(saved >= kWorthSharing), .saved = saved};
  if (plan.shares && saved >= kWorthSharing)
    plan.note = "share_prefixes: " + percent_text(saved) +
                " of the tokens of an evaluation need not be computed, since its samples begin alike";
  return plan;
}

EvalPlan plan_evaluation(const data::Dataset& data, std::span<const std::size_t> samples,
                         std::optional<bool> share_prefixes, const MicroBatchLimits& limits) {
  constexpr std::size_t kWindow = 256;  // dividing compares every sample with every other one
  EvalPlan plan;
  if (!share_prefixes.value_or(true)) return plan;
  std::vector<std::size_t> order(samples.begin(), samples.end());
  std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) { return data.prefix(a) < data.prefix(b); });
  std::size_t tokens = 0, computed = 0;
  for (const std::size_t idx : order) tokens += data.num_tokens(idx);
  for (std::size_t begin = 0; begin < order.size(); begin += kWindow) {
    const auto window = std::span(order).subspan(begin, std::min(kWindow, order.size() - begin));
    StepDivision division = divide_step(hashed_samples(data, window), limits);
    computed += division.num_computed;
    for (std::vector<std::size_t>& batch : division.micro_batches) {
      for (std::size_t& i : batch) i = window[i];
      plan.batches.push_back(std::move(batch));
    }
  }
  plan.prefixes = plan_eval_prefixes(
      share_prefixes, tokens == 0 ? 0.0 : 1.0 - static_cast<double>(computed) / static_cast<double>(tokens));
  if (!plan.prefixes.shares) plan.batches.clear();
  return plan;
}

}  // namespace bezel::train
