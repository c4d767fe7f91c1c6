#pragma once

#include <optional>

#include <torch/types.h>

namespace bezel::kernels {

/// Two bounds; both may be infinite.
struct Bounds {
  double low;
  double high;
};

/// The low-rank product of an adapter: h [N, r] with the scale in it, b [r, M], in any floating dtype; both undefined:
/// none. The product is computed in the dtype of the matrix that the product is added to.
struct LowRank {
  torch::Tensor h;
  torch::Tensor b;
};

/// y [N, M] += h · b in place, summed in float32, rounded once.
void add_low_rank(torch::Tensor& y, const LowRank& term);

/// The same, then clamped to `bounds`. With `keep_inside` returns which elements were inside (a bound itself is), for
/// where_inside(dy, ·); undefined otherwise. On a device y may become another tensor.
torch::Tensor clamp_low_rank(torch::Tensor& y, const LowRank& term, Bounds bounds, bool keep_inside);

/// The same as add_low_rank, then zero where `gate` [N, M] is outside `bounds`. `clamped` is the gate clamped to them
/// where somebody has it, which spares a device a kernel.
void gate_low_rank(torch::Tensor& y, const LowRank& term, const torch::Tensor& gate, Bounds bounds,
                   const torch::Tensor& clamped = {});

/// dy [N, M] where clamp_low_rank found the element inside, else 0.
torch::Tensor where_inside(const torch::Tensor& dy, const torch::Tensor& inside);

/// The same in ATen's operators, on any device; the reference for its test. `inside` is bool [N, M] there.
torch::Tensor clamp_low_rank_plain(torch::Tensor& y, const LowRank& term, Bounds bounds, bool keep_inside);
void gate_low_rank_plain(torch::Tensor& y, const LowRank& term, const torch::Tensor& gate, Bounds bounds);

}  // namespace bezel::kernels
