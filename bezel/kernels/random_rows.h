#pragma once

#include <cstdint>

#include <torch/types.h>

/// Random numbers by a hash of counters: each follows from `key`, its row's key and its column alone, so that neither
/// the order nor the number of rows, threads or processes changes one.
namespace bezel::kernels {

/// Bernoulli mask, bool [N, columns] on the device of `rows` (int64 [N], contiguous): false with `probability`, at
/// least 0 and below 1.
torch::Tensor keep_mask(std::uint64_t key, const torch::Tensor& rows, std::int64_t columns, double probability);

/// Uniform in [0, 1), float32 [N, columns], multiples of 2^-24.
torch::Tensor uniform_rows(std::uint64_t key, const torch::Tensor& rows, std::int64_t columns);

/// The 32 random bits behind both, as int64 [N, columns], in ATen's operators.
torch::Tensor random_bits(std::uint64_t key, const torch::Tensor& rows, std::int64_t columns);

}  // namespace bezel::kernels
