#pragma once

#include <optional>
#include <utility>

#include <torch/types.h>

#include "bezel/io/tensor_io.h"

namespace bezel::quant {

/// A copy of codes on the CPU in large pages, those of a mapped file evicted; the codes themselves where most of a
/// large page would stay empty. Codes that are not mapped become that copy, so that there is one. Throws Error
/// (kMemory) when there is no memory for it.
inline torch::Tensor pinned_codes(torch::Tensor& codes) {
  constexpr std::size_t kLeastBytes = std::size_t{1} << 20;  // half a large page
  if (!codes.is_cpu() || codes.nbytes() < kLeastBytes || !codes.is_contiguous()) return codes;
  torch::Tensor copy = io::in_large_pages(codes);
  io::evict(codes);
  if (!io::is_mapped(codes)) codes = copy;
  return copy;
}

/// What a value was before the first pin, until the last one is gone: the counting of Weight::pin and unpin.
template <typename Value>
class Unpinned {
 public:
  /// On the first pin `value` becomes make().
  template <typename Make>
  void pin(Value& value, const Make& make) {
    if (num_pins_ == 0) before_ = std::exchange(value, make());
    ++num_pins_;
  }
  void unpin(Value& value) {
    if (num_pins_ > 0 && --num_pins_ == 0) value = *std::exchange(before_, std::nullopt);
  }
  /// `value` as it is without pins.
  const Value& of(const Value& value) const { return before_ ? *before_ : value; }

 private:
  std::optional<Value> before_;
  int num_pins_ = 0;
};

}  // namespace bezel::quant
