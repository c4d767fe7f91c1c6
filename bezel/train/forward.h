#pragma once

#include <map>
#include <string>

#include "bezel/data/batch.h"
#include "bezel/gemma4/model.h"
#include "bezel/gemma4/phase.h"

namespace bezel::train {

/// Model::label_states, with `observer` called after each phase up to the decoder.
torch::Tensor label_states(gemma4::Model& model, const data::Batch& batch, const gemma4::PhaseObserver& observer);

/// Sum of the cross-entropy over the batch's label tokens, a float32 scalar with a graph where adapters are. `observer`
/// is called after each phase.
torch::Tensor loss_sum(gemma4::Model& model, const data::Batch& batch, const gemma4::PhaseObserver& observer = {},
                       double label_smoothing = 0.0);

/// Mean loss over the batch's label tokens, a float32 scalar with a graph where adapters are.
torch::Tensor mean_loss(gemma4::Model& model, const data::Batch& batch);

/// One pass over a batch of processor tensors, for comparing with anything else: "logits" [B, T, V], "image_features",
/// "audio_features", and with labels "loss". With `with_grads`, also "grad.<adapter key>" for every adapter tensor that
/// took part.
std::map<std::string, torch::Tensor> forward_tensors(gemma4::Model& model, const data::Batch& on_host, bool with_grads);

}  // namespace bezel::train
