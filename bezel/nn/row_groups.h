#pragma once

#include <cstdint>
#include <vector>

#include <torch/types.h>

namespace bezel::nn {

/// Consecutive rows of a gathered tensor that go to one expert.
struct RowGroup {
  std::int64_t expert = 0;
  std::int64_t begin = 0;
  std::int64_t count = 0;  ///< at least 1
};

/// The rows that a router sends to each expert, gathered expert by expert. Each of N rows goes to K experts, so S = N*K
/// rows are gathered.
struct RowGroups {
  std::vector<RowGroup> groups;  ///< of the experts that have rows, in order
  torch::Tensor source;          ///< int64 [S], the row of x that a gathered row is
  torch::Tensor slot;            ///< int64 [S], the element of `chosen`, flattened, that sent it
  torch::Tensor place;           ///< int64 [N*K], the inverse of `slot`
  torch::Tensor ends{};          ///< int32 [E], where each expert's rows end; only on a device, where `groups` is empty
};

/// Groups rows by `chosen`, int64 [N, K] below `num_experts`, in order of the rows. On a device see
/// group_rows_on_device; with a LibTorch that has no product for it, `chosen` is read back to the host.
RowGroups group_rows(const torch::Tensor& chosen, std::int64_t num_experts);

/// For each row, the sum over its K experts of weight * z, in float32, rounded once. z [S, H] gathered, place int64
/// [N*K], weight float32 [N, K] or undefined (1) -> [N, H] in z's dtype.
torch::Tensor sum_of_experts(const torch::Tensor& z, const torch::Tensor& place, const torch::Tensor& weight,
                             std::int64_t num_rows);

/// The same in ATen's operators, on any device; the reference for its test.
torch::Tensor sum_of_experts_plain(const torch::Tensor& z, const torch::Tensor& place, const torch::Tensor& weight,
                                   std::int64_t num_rows);

}  // namespace bezel::nn
