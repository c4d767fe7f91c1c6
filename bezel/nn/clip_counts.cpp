#include "bezel/nn/clip_counts.h"

#include <ATen/ATen.h>

namespace bezel::nn {
namespace {

thread_local ClipCounting* current_counting = nullptr;

std::int64_t how_many(const torch::Tensor& where) { return where.sum().item<std::int64_t>(); }

}  // namespace

void ClipCounts::add(const torch::Tensor& x, const torch::Tensor& y, const Clip& clip) {
  inputs += x.numel();
  outputs += y.numel();
  input_min += how_many(x < clip.input_min);
  input_max += how_many(x > clip.input_max);
  output_min += how_many(y < clip.output_min);
  output_max += how_many(y > clip.output_max);
}

ClipCounting::ClipCounting() : outer_(current_counting) { current_counting = this; }
ClipCounting::~ClipCounting() { current_counting = outer_; }
ClipCounting* ClipCounting::current() { return current_counting; }

}  // namespace bezel::nn
