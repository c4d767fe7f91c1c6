#pragma once

#include <torch/types.h>

#include "bezel/io/tensor_io.h"

namespace bezel::quant {

/// A copy of codes on the CPU in large pages, those of a mapped file evicted; the codes themselves where most of a
/// large page would stay empty. Throws Error (kMemory) when there is no memory for it.
inline torch::Tensor pinned_codes(const torch::Tensor& codes) {
  constexpr std::size_t kLeastBytes = std::size_t{1} << 20;  // half a large page
  if (!codes.is_cpu() || codes.nbytes() < kLeastBytes || !codes.is_contiguous()) return codes;
  torch::Tensor copy = io::in_large_pages(codes);
  io::evict(codes);
  return copy;
}

}  // namespace bezel::quant
