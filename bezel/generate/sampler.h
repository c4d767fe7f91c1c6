#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <vector>

namespace bezel::generate {

/// How the next token is sampled. Applied in transformers' order: temperature, top_k, top_p.
struct SamplingOptions {
  bool greedy = true;        ///< the most probable token, the first of equal ones; nothing else counts then
  double temperature = 1.0;  ///< divides the logits
  std::int64_t top_k = 0;    ///< only tokens not less probable than the k-th are kept; 0: all
  double top_p = 1.0;        ///< the most probable tokens are kept until their probabilities reach this sum
  std::vector<std::int64_t> suppress_tokens = {};  ///< never drawn; before all else, also where it is greedy
};

/// Throws Error (kConfig) unless temperature > 0, top_k >= 0 and 0 < top_p <= 1.
void check_sampling(const SamplingOptions& options);

/// A token that may be sampled.
struct Candidate {
  std::int64_t token = 0;
  double probability = 0.0;
};

/// The distribution of `logits` [V] after top-k, top-p and min-p of `options`, the most probable first; sums to 1.
std::vector<Candidate> distribution(std::span<const float> logits, const SamplingOptions& options);

/// Draws tokens; the same seed gives the same tokens on every machine for the same logits.
class Sampler {
 public:
  Sampler(const SamplingOptions& options, std::uint64_t seed);

  /// The next token for `logits` [V]. Throws Error when no logit is finite or one is NaN.
  std::int64_t next(std::span<const float> logits);

 private:
  SamplingOptions options_;
  std::mt19937_64 random_;
};

}  // namespace bezel::generate
