#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include <torch/nn/module.h>

#include "bezel/nn/linear.h"

namespace bezel::nn {

/// Number of values that a clipped layer clamped, and how many of them were outside each bound.
struct ClipCounts {
  std::int64_t inputs = 0, outputs = 0;
  std::int64_t input_min = 0, input_max = 0, output_min = 0, output_max = 0;

  /// x [N, in] before the input's clamp, y [N, out] before the output's.
  void add(const torch::Tensor& x, const torch::Tensor& y, const Clip& clip);
};

/// Counts what the clamps of some layers change, from construction to destruction. The layers must outlive it. Throws
/// std::logic_error for a layer without clamps and for one that has an observer.
class ClipObserver {
 public:
  explicit ClipObserver(std::span<LinearImpl* const> layers);
  ~ClipObserver();
  ClipObserver(const ClipObserver&) = delete;
  ClipObserver& operator=(const ClipObserver&) = delete;

  const ClipCounts& of(const LinearImpl* layer) const { return counts_.at(layer); }

 private:
  void detach();

  std::map<const LinearImpl*, ClipCounts> counts_;
  std::vector<LinearImpl*> layers_;
};

/// Whether a layer in `module` or below has an observer.
bool has_clip_observer(const torch::nn::Module& module);

}  // namespace bezel::nn
