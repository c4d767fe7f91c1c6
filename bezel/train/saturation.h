#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "bezel/data/batch.h"
#include "bezel/gemma4/model.h"
#include "bezel/gemma4/phase.h"
#include "bezel/nn/clip_counts.h"

namespace bezel::train {

/// What a clipped layer met in one measurement.
struct LayerSaturation {
  std::string name;  ///< of the module, such as "model.vision_tower.encoder.layers.0.self_attn.q_proj"
  nn::ClipCounts counts;
};

/// Gives the next sample that has media of a kind that is asked for, as a batch by itself; nothing after the last one.
/// Media of other samples are not decoded. The batch has no tokens if the sample could not be decoded and is skipped.
using NextMediaSample = std::function<std::optional<data::Batch>(const input::PerKind<bool>& wanted)>;

/// Sends the media of the first samples that have some, up to `num_samples` for each kind, through the encoders,
/// without gradients and in evaluation mode, and counts what the clips clamp. Layers without a finite bound, and those
/// that saw no value, are left out. The model is in training mode afterwards if it was before. `observer` is called
/// when a tower has ended.
std::vector<LayerSaturation> measure_saturation(gemma4::Model& model, const NextMediaSample& next_sample,
                                                torch::Device device, const gemma4::PhaseObserver& observer = {},
                                                std::int64_t num_samples = 2);

}  // namespace bezel::train
