#pragma once

#include <torch/types.h>

#include "bezel/quant/weight.h"

namespace bezel::train {

/// log softmax(softcap(h · headᵀ))[label] of each row, float32 [L], with a graph where `hidden` has one. hidden [L, H],
/// labels int64 [L], head [V, H]; `softcap` 0 means no softcap. As cross_entropy_sum makes them, a few rows at a time.
torch::Tensor label_logps(const torch::Tensor& hidden, const quant::Weight& head, const torch::Tensor& labels,
                          double softcap);

}  // namespace bezel::train
