#pragma once

#include <vector>

#include <torch/types.h>

#include "bezel/nn/row_groups.h"
#include "bezel/quant/weight.h"

/// Mixtures of experts on a device that the host does not wait for: rows are sorted there, and all experts are one
/// product whose row counts stay there too. For what the host can read, see group_rows and GroupedProduct.
namespace bezel::nn {

/// Whether this LibTorch multiplies groups of rows whose ends are a tensor (at::_grouped_mm, from 2.10 on).
bool has_device_experts();

/// group_rows without a read-back: `groups` stays empty, `ends` is where each expert's rows end. An expert that does
/// not exist is not noticed.
RowGroups group_rows_on_device(const torch::Tensor& chosen, std::int64_t num_experts);

/// What experts are adapted with on a device: A [E, r, in] and B [E, out, r], in the dtype of the rows, the rank padded
/// with zeros to a multiple of 8, which the product asks for.
struct DeviceFactors {
  torch::Tensor a, b;
  double scale = 1.0;
};

/// From A [E*r, in] and B [out, r*E], as PEFT keeps them.
DeviceFactors device_factors(const torch::Tensor& a, const torch::Tensor& b, std::int64_t num_experts, double scale,
                             torch::ScalarType dtype);

/// y = x W_eᵀ (+ scale (x A_eᵀ) B_eᵀ) of gathered rows x [S, in], stack [E, out, in]; h gets x A_eᵀ [S, r padded].
/// The stack is dequantized as a whole: which experts have rows is not known here.
torch::Tensor experts_product(const torch::Tensor& x, const quant::Weight& stack, const torch::Tensor& ends,
                              const DeviceFactors* factors, torch::Tensor& h);

/// The backward pass of it: gradients of x (undefined unless wanted) and, with factors, of A [E*r, in] and B [out, r*E]
/// in float32.
struct DeviceGradients {
  torch::Tensor x, a, b;
};
DeviceGradients experts_product_backward(const torch::Tensor& dy, const torch::Tensor& x, const torch::Tensor& h,
                                         const quant::Weight& stack, const torch::Tensor& ends,
                                         const DeviceFactors* factors, std::int64_t rank, bool wants_input);

}  // namespace bezel::nn
