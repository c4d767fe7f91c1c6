#include "bezel/nn/clip_counts.h"

#include <algorithm>
#include <stdexcept>

#include <ATen/ATen.h>

#include "bezel/nn/weight_site.h"

namespace bezel::nn {
namespace {

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

ClipObserver::ClipObserver(std::span<LinearImpl* const> layers) {
  for (LinearImpl* layer : layers) {
    if (!layer->clip || layer->clip_counts) {
      detach();
      throw std::logic_error("a clip observer takes clipped layers that have no other observer");
    }
    layer->clip_counts = &counts_[layer];
    layers_.push_back(layer);
  }
}

ClipObserver::~ClipObserver() { detach(); }

void ClipObserver::detach() {
  for (LinearImpl* layer : layers_) layer->clip_counts = nullptr;
}

bool has_clip_observer(const torch::nn::Module& module) {
  return std::ranges::any_of(linear_sites(module),
                             [](const WeightSite& site) { return site.layer->clip_counts != nullptr; });
}

}  // namespace bezel::nn
