#include "bezel/quant/shared_codes.h"

#include <optional>
#include <utility>

#include <ATen/ATen.h>

#include "bezel/io/divide_up.h"

namespace bezel::quant {
namespace {

using torch::Tensor;

// A matrix of the same shape and dtype without values: its codes have the sizes that those of any matrix have.
Tensor row_of_zeros(const Tensor& matrix, std::int64_t elements) { return at::zeros({elements}, matrix.options()); }

void put(const Tensor& place, const Tensor* value) {
  if (value != nullptr) place.copy_(*value);
}

}  // namespace

std::function<FourBit()> share_4bit(SharedMemory& memory, const Tensor& matrix, FourBitType type, bool double_quant) {
  const bool mine = memory.next_is_mine();
  // One block of zeros tells all that does not depend on the values.
  FourBit shared = quantize_4bit(row_of_zeros(matrix, 1), type, double_quant);
  shared.shape = matrix.sizes().vec();
  const std::int64_t blocks = io::divide_up(matrix.numel(), shared.block_size);
  std::optional<FourBit> made;
  if (mine) made = quantize_4bit(matrix, type, double_quant);
  shared.packed = memory.next({io::divide_up(matrix.numel(), 2)}, torch::kByte);
  shared.scales = memory.next({blocks}, shared.scales.scalar_type());
  put(shared.packed, made ? &made->packed : nullptr);
  put(shared.scales, made ? &made->scales : nullptr);
  if (!shared.nested) return [shared] { return shared; };
  shared.nested->scales = memory.next({io::divide_up(blocks, shared.nested->block_size)}, torch::kFloat);
  const Tensor offset = memory.next({1}, torch::kFloat);
  put(shared.nested->scales, made ? &made->nested->scales : nullptr);
  if (made) offset.fill_(made->nested->offset);
  return [shared, offset]() mutable {
    shared.nested->offset = offset.item<float>();
    return shared;
  };
}

std::function<IntegerMatrix()> share_int8(SharedMemory& memory, const Tensor& matrix) {
  const bool mine = memory.next_is_mine();
  IntegerMatrix shared = quantize_int8(row_of_zeros(matrix, matrix.size(-1)).unsqueeze(0));
  shared.shape = matrix.sizes().vec();
  const std::int64_t columns = matrix.size(-1), rows = matrix.numel() / columns;
  std::optional<IntegerMatrix> made;
  if (mine) made = quantize_int8(matrix);
  shared.codes = memory.next({rows, columns}, torch::kChar);
  shared.scales = memory.next({rows, 1}, torch::kFloat);
  put(shared.codes, made ? &made->codes : nullptr);
  put(shared.scales, made ? &made->scales : nullptr);
  return [shared] { return shared; };
}

}  // namespace bezel::quant
