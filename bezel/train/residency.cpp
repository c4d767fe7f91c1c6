#include "bezel/train/residency.h"

#include <algorithm>

#include <unistd.h>

#include "bezel/nn/weight_site.h"

namespace bezel::train {
namespace {

using Weights = std::vector<std::shared_ptr<const quant::Weight>>;

std::int64_t bytes_of(const Weights& weights) {
  std::int64_t bytes = 0;
  for (const auto& weight : weights) bytes += weight->bytes();
  return bytes;
}

// The backward pass reads these last.
Weights lower_half(const torch::nn::ModuleList& layers) {
  Weights weights;
  for (std::size_t i = 0; i < layers->size() / 2; ++i) {
    const Weights own = nn::linear_weights(*layers->ptr(i));
    weights.insert(weights.end(), own.begin(), own.end());
  }
  return weights;
}

void evict(const Weights& weights) {
  for (const auto& weight : weights) weight->evict(0);
}

bool is_trained(const torch::nn::Module& tower) { return !nn::adapter_tensors(tower).empty(); }

}  // namespace

Residency::Residency(const gemma4::Model& model, EvictionOptions options) : options_(options), head_(model->head()) {
  const gemma4::Backbone& backbone = model->model;
  decoder_ = lower_half(backbone->language_model->layers);
  std::int64_t returning_bytes = bytes_of(decoder_);  // read again by the backward pass
  if (const auto& tower = backbone->vision_tower) {
    vision_ = nn::linear_weights(*tower);
    if (is_trained(*tower)) returning_bytes += bytes_of(vision_);
  }
  if (const auto& tower = backbone->audio_tower) {
    // With a backward pass to come, mapping all of the tower again costs more time than its memory is worth.
    audio_ = is_trained(*tower) ? lower_half(tower->layers) : nn::linear_weights(*tower);
    if (is_trained(*tower)) returning_bytes += bytes_of(audio_);
  }
  // The peak is reached when the head is read. What the backward pass maps again replaces that much of the head.
  const std::int64_t bytes = std::max<std::int64_t>(head_->bytes(), 1);
  first_head_row_ = head_->shape()[0] * std::max<std::int64_t>(bytes - returning_bytes, 0) / bytes;
}

void Residency::after(gemma4::Phase phase) const {
  switch (phase) {
    case gemma4::Phase::kVision:
      if (options_.encoders) evict(vision_);
      break;
    case gemma4::Phase::kAudio:
      if (options_.encoders) evict(audio_);
      break;
    case gemma4::Phase::kDecoder:
      if (options_.decoder) evict(decoder_);
      break;
    case gemma4::Phase::kHead:
      if (options_.head) head_->evict(first_head_row_);
      break;
  }
}

PinnedDecoder::PinnedDecoder(const gemma4::Model& model) {
  Weights weights = nn::linear_weights(*model->model->language_model);
  weights.push_back(model->head());
  const double memory = static_cast<double>(::sysconf(_SC_PHYS_PAGES)) * static_cast<double>(::sysconf(_SC_PAGESIZE));
  if (static_cast<double>(bytes_of(weights)) > memory / 2) return;
  pins_.reserve(weights.size());
  for (auto& weight : weights) pins_.emplace_back(std::move(weight));
}

}  // namespace bezel::train
