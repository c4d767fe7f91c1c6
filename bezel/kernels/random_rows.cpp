#include "bezel/kernels/random_rows.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <ATen/ATen.h>

#include "bezel/kernels/counter_hash.h"
#include "bezel/kernels/host_loops.h"
#include "bezel/kernels/simd/dispatch.h"

namespace bezel::kernels {
namespace {

using torch::Tensor;

constexpr std::int64_t kLow = 0xFFFFFFFF;

// Logical shifts of what may be negative as int64.
Tensor shift_right(const Tensor& x, std::int64_t by) {
  return x.bitwise_right_shift(by).bitwise_and((std::int64_t{1} << (64 - by)) - 1);
}

// mix64 of counter_hash.h.
Tensor mixed(Tensor z) {
  z = z.bitwise_xor(shift_right(z, 30)).mul(static_cast<std::int64_t>(0xBF58476D1CE4E5B9u));
  z = z.bitwise_xor(shift_right(z, 27)).mul(static_cast<std::int64_t>(0x94D049BB133111EBu));
  return z.bitwise_xor(shift_right(z, 31));
}

// Bits below it drop an element.
std::uint32_t threshold(double probability) {
  return static_cast<std::uint32_t>(std::min(std::floor(probability * 4294967296.0), 4294967295.0));
}

}  // namespace

Tensor random_bits(std::uint64_t key, const Tensor& rows, std::int64_t columns) {
  const Tensor row = mixed(rows.bitwise_xor(static_cast<std::int64_t>(key))).unsqueeze(1);  // [N, 1]
  Tensor x = at::arange(columns, rows.options()).mul(simd::kRandomStride).add(row.bitwise_and(kLow)).bitwise_and(kLow);
  x = x.bitwise_xor(x.bitwise_right_shift(16)).mul(simd::kRandomFactors[0]);
  x = x.bitwise_and(kLow);
  x = x.bitwise_xor(x.bitwise_right_shift(13)).add(shift_right(row, 32)).bitwise_and(kLow).mul(simd::kRandomFactors[1]);
  x = x.bitwise_and(kLow);
  return x.bitwise_xor(x.bitwise_right_shift(16));
}

Tensor keep_mask(std::uint64_t key, const Tensor& rows, std::int64_t columns, double probability) {
  TORCH_CHECK(rows.dim() == 1 && rows.scalar_type() == torch::kLong && rows.is_contiguous(),
              "expected keys int64 [N], got ", rows.scalar_type(), " ", rows.sizes());
  TORCH_CHECK(probability >= 0 && probability < 1, "cannot drop with probability ", probability);
  const std::uint32_t least = threshold(probability);
  if (!may_loop(rows)) return random_bits(key, rows, columns).ge(static_cast<std::int64_t>(least));
  std::vector<std::uint64_t> bits(static_cast<std::size_t>(rows.size(0)));
  std::transform(rows.data_ptr<std::int64_t>(), rows.data_ptr<std::int64_t>() + rows.size(0), bits.begin(),
                 [&](std::int64_t row) { return mix64(static_cast<std::uint64_t>(row) ^ key); });
  Tensor mask = at::empty({rows.size(0), columns}, rows.options().dtype(torch::kBool));
  simd::for_rows(simd::row_kernels().keep_mask, simd::KeepMask{bits.data(), columns, least, mask.data_ptr<bool>()},
                 rows.size(0), columns);
  return mask;
}

Tensor uniform_rows(std::uint64_t key, const Tensor& rows, std::int64_t columns) {
  return random_bits(key, rows, columns).bitwise_right_shift(8).to(torch::kFloat).mul_(0x1p-24);
}

}  // namespace bezel::kernels
