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

bool is_trained(const torch::nn::Module& encoder) { return !nn::adapter_tensors(encoder).empty(); }

// Before a backward pass, mapping the audio encoder again costs more time than its memory saves.
bool keeps_upper_half(const gemma4::MediaInput& path) {
  return path.kind() == input::MediaKind::kAudio && is_trained(*path.encoder);
}

}  // namespace

Residency::Residency(const gemma4::Model& model, EvictionOptions options)
    : options_(options), head_(model->output_embedding()) {
  const gemma4::Backbone& backbone = model->model;
  decoder_ = lower_half(backbone->language_model->layers);
  std::int64_t returning_bytes = bytes_of(decoder_);  // read again by the backward pass
  for (const gemma4::MediaInput& path : backbone->media_inputs) {
    Weights& weights = encoders_[path.kind()];
    weights = keeps_upper_half(path) ? lower_half(path.encoder->layers()) : nn::linear_weights(*path.encoder);
    if (is_trained(*path.encoder)) returning_bytes += bytes_of(weights);
  }
  // The peak is reached when the head is read. What the backward pass maps again replaces that much of the head.
  const std::int64_t bytes = std::max<std::int64_t>(head_->bytes(), 1);
  first_head_row_ = head_->shape()[0] * std::max<std::int64_t>(bytes - returning_bytes, 0) / bytes;
}

void Residency::after(gemma4::Phase phase) const {
  switch (phase.kind) {
    case gemma4::Phase::Kind::kEncoder:
      if (options_.encoders) evict(encoders_[phase.media]);
      break;
    case gemma4::Phase::Kind::kDecoder:
      if (options_.decoder) evict(decoder_);
      break;
    case gemma4::Phase::Kind::kHead:
      if (options_.head) head_->evict(first_head_row_);
      break;
  }
}

PinnedDecoder::PinnedDecoder(const gemma4::Model& model) {
  Weights weights = nn::linear_weights(*model->model->language_model);
  weights.push_back(model->output_embedding());
  const double memory = static_cast<double>(::sysconf(_SC_PHYS_PAGES)) * static_cast<double>(::sysconf(_SC_PAGESIZE));
  if (static_cast<double>(bytes_of(weights)) > memory / 2) return;
  pins_.reserve(weights.size());
  for (auto& weight : weights) pins_.emplace_back(std::move(weight));
}

}  // namespace bezel::train
