#pragma once

#include <cstdint>

#include <torch/types.h>

#include "bezel/nn/trained_table.h"
#include "bezel/quant/weight.h"

namespace bezel::train {

/// Logits that exist at a time: 64 MiB of bfloat16, 128 rows of Gemma 4's vocabulary, enough for products at full
/// speed.
inline constexpr std::int64_t kLogitsAtATime = 32 << 20;

/// Sum of -log softmax(softcap(h · headᵀ))[label] over rows, a float32 scalar. hidden [L, H], labels int64 [L],
/// head [V, H]. The logits of a few rows at a time are made, used for loss and gradient at once, and dropped:
/// no [L, V] tensor exists. Gradients flow to `hidden`, and to `trained` where the head has it inside; with
/// `is_training` its dropout is on. `softcap` 0 means no softcap (final_logit_softcapping). With `smoothing`, that
/// share of each label is spread over all tokens (kernels::smoothed_cross_entropy). References: ForCausalLMLoss and
/// LabelSmoother, before they divide by the number of labels.
torch::Tensor cross_entropy_sum(const torch::Tensor& hidden, const quant::Weight& head, const torch::Tensor& labels,
                                double softcap, const nn::TrainedTable* trained = nullptr, bool is_training = false,
                                double smoothing = 0.0);

/// What cross_entropy_sum gives, without a graph, and how many labels are the most likely token.
struct LabelSums {
  double loss = 0.0;
  std::int64_t correct = 0;
};
LabelSums label_sums(const torch::Tensor& hidden, const quant::Weight& head, const torch::Tensor& labels,
                     double softcap, double smoothing = 0.0);

}  // namespace bezel::train
