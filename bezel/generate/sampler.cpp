#include "bezel/generate/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "bezel/error.h"

namespace bezel::generate {
namespace {

std::int64_t largest(std::span<const float> logits) {
  return std::max_element(logits.begin(), logits.end()) - logits.begin();
}

// Tokens whose logit is not below the k-th largest.
std::vector<std::int64_t> top_tokens(std::span<const float> logits, std::int64_t k) {
  std::vector<std::int64_t> tokens(logits.size());
  std::iota(tokens.begin(), tokens.end(), std::int64_t{0});
  if (k == 0 || k >= static_cast<std::int64_t>(tokens.size())) return tokens;
  std::vector<float> values(logits.begin(), logits.end());
  std::ranges::nth_element(values, values.begin() + (k - 1), std::greater<>());
  const float least = values[static_cast<std::size_t>(k - 1)];
  std::erase_if(tokens, [&](std::int64_t token) { return logits[static_cast<std::size_t>(token)] < least; });
  return tokens;
}

// A copy in which `tokens` cannot be drawn; empty where there are none.
std::vector<float> without(std::span<const float> logits, const std::vector<std::int64_t>& tokens) {
  if (tokens.empty()) return {};
  std::vector<float> allowed(logits.begin(), logits.end());
  for (const std::int64_t token : tokens)
    if (token >= 0 && token < static_cast<std::int64_t>(allowed.size()))
      allowed[static_cast<std::size_t>(token)] = -std::numeric_limits<float>::infinity();
  return allowed;
}

void normalize(std::vector<Candidate>& candidates) {
  double sum = 0.0;
  for (const Candidate& candidate : candidates) sum += candidate.probability;
  for (Candidate& candidate : candidates) candidate.probability /= sum;
}

}  // namespace

void check_sampling(const SamplingOptions& options) {
  if (options.greedy) return;
  if (!(options.temperature > 0.0) || !std::isfinite(options.temperature))
    throw Error(ErrorKind::kConfig, "temperature ", options.temperature,
                ": expected a number above 0; the most probable token is --greedy");
  if (options.top_k < 0) throw Error(ErrorKind::kConfig, "top_k ", options.top_k, ": expected 0 (all tokens) or more");
  if (!(options.top_p > 0.0 && options.top_p <= 1.0))
    throw Error(ErrorKind::kConfig, "top_p ", options.top_p, ": expected a number above 0 and not above 1");
}

std::vector<Candidate> distribution(std::span<const float> logits, const SamplingOptions& options) {
  if (options.greedy) return {{largest(logits), 1.0}};
  std::vector<Candidate> candidates;
  const double top = logits[static_cast<std::size_t>(largest(logits))];
  for (const std::int64_t token : top_tokens(logits, options.top_k))
    candidates.push_back({token, std::exp((logits[static_cast<std::size_t>(token)] - top) / options.temperature)});
  std::ranges::stable_sort(candidates, std::greater<>(), &Candidate::probability);
  normalize(candidates);
  double before = 0.0;
  std::size_t kept = 0;
  // A token stays while those before it fall short of top_p, so one always stays.
  while (kept < candidates.size() && (kept == 0 || before < options.top_p)) before += candidates[kept++].probability;
  candidates.resize(kept);
  normalize(candidates);
  return candidates;
}

Sampler::Sampler(const SamplingOptions& options, std::uint64_t seed) : options_(options), random_(seed) {
  check_sampling(options);
}

std::int64_t Sampler::next(std::span<const float> all_logits) {
  const std::vector<float> allowed = without(all_logits, options_.suppress_tokens);
  const std::span<const float> logits = allowed.empty() ? all_logits : allowed;
  const bool has_nan = std::ranges::any_of(logits, [](float logit) { return std::isnan(logit); });
  if (logits.empty() || has_nan || !std::isfinite(logits[static_cast<std::size_t>(largest(logits))]))
    throw Error("the model's output is no number; the checkpoint or the adapter is damaged, or bfloat16 overflowed");
  if (options_.greedy) return largest(logits);
  const std::vector<Candidate> candidates = distribution(logits, options_);
  // 53 random bits, as std::uniform_real_distribution differs between libraries.
  double left = static_cast<double>(random_() >> 11) * 0x1.0p-53;
  for (const Candidate& candidate : candidates) {
    left -= candidate.probability;
    if (left < 0.0) return candidate.token;
  }
  return candidates.front().token;  // rounding left a rest; nobody is more probable
}

}  // namespace bezel::generate
