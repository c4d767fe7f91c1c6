#pragma once

#include <torch/types.h>

#include "bezel/kernels/attention.h"

namespace bezel::kernels {

/// H heads of keys and values; `group` query heads share each, and are rows of q one behind the other for every query.
struct RangedAttention {
  torch::Tensor q;  ///< bfloat16 [H, Q * group, D]
  torch::Tensor k;  ///< bfloat16 [H, S, D]
  torch::Tensor v;  ///< bfloat16 [H, S, D]
  /// int64 [R, B, Q], the first key of each of R runs that a query sees, which do not overlap; head h goes by row
  /// h / (H / B)
  torch::Tensor first;
  torch::Tensor end;  ///< int64 [R, B, Q], the key after the last; not behind the first: an empty run
};

/// Whether it runs here: bfloat16 on a CPU, heads of whole vectors.
bool has_ranged_attention(const torch::Tensor& q);

/// softmax(q kᵀ) v, each query over its runs of keys. Scores exist for a few rows at a time, and only for keys that one
/// of them sees. Scores and sums are float32, probabilities are rounded to bfloat16 for the second product. The result
/// has q's shape, log_sum is [H, Q * group]; rows that see no key are 0.
Attended ranged_attention(const RangedAttention& a);

/// Its gradients from d_out, of q's shape; those of k and v are summed over the queries in float32.
AttentionGradients ranged_attention_backward(const RangedAttention& a, const Attended& attended,
                                             const torch::Tensor& d_out);

}  // namespace bezel::kernels
