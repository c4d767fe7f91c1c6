#pragma once

#include <cstdint>
#include <unordered_map>

#include "bezel/nn/linear.h"

namespace bezel::nn {

/// How many values a clipped layer met, and how many of them lay outside each bound.
struct ClipCounts {
  std::int64_t inputs = 0, outputs = 0;
  std::int64_t input_min = 0, input_max = 0, output_min = 0, output_max = 0;

  /// x [N, in] before the input's clamp, y [N, out] before the output's.
  void add(const torch::Tensor& x, const torch::Tensor& y, const Clip& clip);
};

/// While one lives, the clipped layers that this thread runs count what they clamp. Nothing is counted otherwise. Of
/// several the one made last counts.
class ClipCounting {
 public:
  ClipCounting();
  ~ClipCounting();
  ClipCounting(const ClipCounting&) = delete;
  ClipCounting& operator=(const ClipCounting&) = delete;

  /// This thread's; null when there is none.
  static ClipCounting* current();

  ClipCounts& of(const LinearImpl* layer) { return counts_[layer]; }
  /// Of the layers that ran.
  const std::unordered_map<const LinearImpl*, ClipCounts>& counts() const { return counts_; }

 private:
  std::unordered_map<const LinearImpl*, ClipCounts> counts_;
  ClipCounting* outer_;
};

}  // namespace bezel::nn
