#pragma once

#include <cstdint>
#include <utility>

#include <torch/types.h>

#include "bezel/lora/pissa_config.h"
#include "bezel/quant/weight.h"

/// PiSSA: A and B begin as the strongest directions of the base's matrix W, which are taken out of it:
/// W - s B0 A0 + s B A. The base stays as it is here: what is added to it is s (B A - B0 A0), LoRA of twice the rank,
/// and so it is saved, as PEFT's path_initial_model_for_weight_conversion does.
/// Reference: peft 0.21.2, LoraLayer.pissa_init and LoraModel.subtract_mutated_init; arXiv 2404.02948.
namespace bezel::lora {

/// A0 [rank, in] and B0 [out, rank], float32, of a matrix [out, in] that is dense: s B0 A0 is the part of it that its
/// `rank` largest singular values make. Draws from torch's default generator where it iterates.
std::pair<torch::Tensor, torch::Tensor> pissa_factors(const quant::Weight& weight, std::int64_t rank, double scale,
                                                      const Pissa& how);

}  // namespace bezel::lora
