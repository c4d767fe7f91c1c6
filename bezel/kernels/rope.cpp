#include "bezel/kernels/rope.h"

#include <ATen/ATen.h>

#include "bezel/kernels/host_loops.h"
#include "bezel/kernels/simd/dispatch.h"

namespace bezel::kernels {

using torch::Tensor;

Tensor apply_rope_plain(const Tensor& x, const Tensor& cos, const Tensor& sin, bool back) {
  const std::int64_t period = cos.size(0), groups = cos.size(1), columns = x.size(2);
  const Tensor wide = x.reshape({-1, period, x.size(1) / groups, groups, columns});
  const auto halves = wide.chunk(2, -1);
  const Tensor swapped = at::cat({halves[1].neg(), halves[0]}, -1);
  const auto angles = [&](const Tensor& table) { return table.view({1, period, 1, groups, columns}); };
  const Tensor turned = swapped * angles(sin);
  return (wide * angles(cos)).add_(turned, back ? -1.0 : 1.0).view(x.sizes());
}

namespace {

// Three kernels of a device, without the halves put side by side; each half is rounded once.
Tensor apply_rope_by_halves(const Tensor& x, const Tensor& cos, const Tensor& sin, bool back) {
  const std::int64_t period = cos.size(0), groups = cos.size(1), columns = x.size(2);
  const Tensor wide = x.reshape({-1, period, x.size(1) / groups, groups, columns});
  const auto angles = [&](const Tensor& table) { return table.view({1, period, 1, groups, columns}); };
  const auto from = wide.chunk(2, -1), by = angles(sin).chunk(2, -1);
  const Tensor turned = wide * angles(cos);
  auto to = turned.chunk(2, -1);
  to[0].addcmul_(from[1], by[0], back ? 1.0 : -1.0);
  to[1].addcmul_(from[0], by[1], back ? -1.0 : 1.0);
  return turned.view(x.sizes());
}

}  // namespace

Tensor apply_rope(const Tensor& given, const Tensor& cos, const Tensor& sin, bool back) {
  TORCH_CHECK(
      given.dim() == 3 && cos.dim() == 3 && given.size(0) % cos.size(0) == 0 && given.size(1) % cos.size(1) == 0,
      "cannot turn ", given.sizes(), " by angles ", cos.sizes());
  if (!may_loop(given) && !given.is_meta()) return apply_rope_by_halves(given, cos, sin, back);
  const Tensor x = given.contiguous();
  if (!simd::takes({x, cos, sin})) return apply_rope_plain(given, cos, sin, back);
  Tensor y = at::empty_like(x);
  const simd::Rope arguments{simd::bf16(x), simd::bf16(cos), simd::bf16(sin), simd::bf16(y),      x.size(1),
                             cos.size(1),   x.size(2),       cos.size(0),     back ? -1.0f : 1.0f};
  simd::for_rows(simd::row_kernels().apply_rope, arguments, x.size(0), x.size(1) * x.size(2));
  return y;
}

}  // namespace bezel::kernels
