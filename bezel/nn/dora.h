#pragma once

#include <cstdint>

#include <torch/types.h>

#include "bezel/nn/linear.h"

/// DoRA: y = bias + W x + (s - 1) W x' + s * scale * B A x', x' = dropout(x), with one factor s = m / |W + scale * B A|
/// for each output. The magnitudes m are trained; the norms of the rows carry no gradient. Without dropout that is
/// bias + s * (W x + scale * B A x). Reference: peft 0.21.2, lora.dora.DoraLinearLayer; arXiv 2402.09353, section 4.3.
namespace bezel::nn {

/// The Euclidean norm of every row of W + scale * B A, float32 [out]. Only W A^T and products of the rank's size are
/// computed again when A or B has changed: |W_j|^2 is kept.
class EffectiveNorms {
 public:
  torch::Tensor of(const Adapter& adapter, const quant::Weight& weight);

 private:
  torch::Tensor squares_;  // |W_j|^2, float64 [out]
  torch::Tensor norms_;
  // What norms_ was made from.
  const void* a_ = nullptr;
  const void* b_ = nullptr;
  std::uint64_t a_version_ = 0, b_version_ = 0;
};

/// The norms of an adapter with a magnitude, or that is to get one.
torch::Tensor effective_norms(Adapter& adapter, const quant::Weight& weight);

/// Gives an adapter the magnitude with which it begins as LoRA does: s = 1.
void add_magnitude(Adapter& adapter, const quant::Weight& weight);

/// rows * m / |row|, in place: rows [begin, begin + N) of W + scale * B A, float32 [N, in], as merging stores them.
void scale_rows(torch::Tensor& rows, const torch::Tensor& magnitude, std::int64_t begin);

}  // namespace bezel::nn
