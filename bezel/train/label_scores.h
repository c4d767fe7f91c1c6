#pragma once

#include <torch/types.h>

#include "bezel/quant/weight.h"

namespace bezel::train {

/// What a model says of label tokens.
struct LabelScores {
  torch::Tensor nll;      ///< float32 [L], -log softmax(logits)[label]
  torch::Tensor correct;  ///< bool [L], the label is the most likely token
};

/// Scores without a graph. hidden [L, H], labels int64 [L], head [V, H]; `softcap` 0 means no softcap. Makes the logits
/// of a few rows at a time, as cross_entropy_sum does.
LabelScores score_labels(const torch::Tensor& hidden, const quant::Weight& head, const torch::Tensor& labels,
                         double softcap);

}  // namespace bezel::train
