#include "bezel/kernels/low_rank.h"

#include <optional>
#include <utility>

#include <ATen/ATen.h>

#include "bezel/kernels/host_loops.h"
#include "bezel/kernels/packed_weight.h"
#include "bezel/kernels/simd/dispatch.h"

namespace bezel::kernels {
namespace {

using torch::Tensor;

// y += h b on a device: one kernel, which rounds once.
void add_on_device(Tensor& y, const LowRank& term) {
  if (term.h.defined()) y.addmm_(term.h.to(y.scalar_type()), term.b.to(y.scalar_type()));
}

// An element is inside where a clamp leaves it as it is: fewer kernels than comparing with both bounds.
Tensor clamp_on_device(Tensor& y, const LowRank& term, Bounds bounds, bool keep_inside) {
  add_on_device(y, term);
  const Tensor sum = std::exchange(y, at::clamp(y, bounds.low, bounds.high));
  return keep_inside ? y.eq(sum) : Tensor();
}

void gate_on_device(Tensor& y, const LowRank& term, const Tensor& gate, Bounds bounds, const Tensor& clamped) {
  add_on_device(y, term);
  y.mul_((clamped.defined() ? clamped : at::clamp(gate, bounds.low, bounds.high)).eq(gate));
}

// The factors in the dtype of y first, as any other factor of a product.
Tensor sum_plain(const Tensor& y, const LowRank& term) {
  if (!term.h.defined()) return y;
  if (!may_loop(y)) return at::addmm(y, term.h.to(y.scalar_type()), term.b.to(y.scalar_type()));
  const Tensor wide = y.to(torch::kFloat);
  const auto factor = [&y](const Tensor& x) { return x.to(y.scalar_type()).to(torch::kFloat); };
  return at::addmm(wide, factor(term.h), factor(term.b)).to(y.scalar_type());
}

Tensor within(const Tensor& x, Bounds bounds) { return (x >= bounds.low).bitwise_and_(x <= bounds.high); }

bool fits(const Tensor& y, const LowRank& term, const Tensor& gate) {
  return simd::takes({y, gate}) && (!term.h.defined() || (may_loop(term.h) && may_loop(term.b)));
}

void run(Tensor& y, const LowRank& term, simd::Epilogue epilogue, Bounds bounds, const Tensor& gate,
         const Tensor& bits) {
  Tensor h;
  std::optional<PackedWeight> b;
  if (term.h.defined() && term.h.size(1) > 0) {
    h = term.h.to(torch::kBFloat16);
    h = h.size(1) % 2 == 0 ? h.contiguous() : at::constant_pad_nd(h, {0, 1});
    b.emplace(term.b, simd::kPackedWidth);
  }
  const simd::LowRank arguments{simd::bf16(y),
                                simd::bf16(h),
                                b ? b->at(0) : nullptr,
                                h.defined() ? h.size(1) : 0,
                                y.size(1),
                                epilogue,
                                static_cast<float>(bounds.low),
                                static_cast<float>(bounds.high),
                                simd::bf16(gate),
                                simd::data<std::uint32_t>(bits)};
  simd::for_rows(simd::low_rank_loops().low_rank, arguments, y.size(0), y.size(1));
}

}  // namespace

Tensor clamp_low_rank_plain(Tensor& y, const LowRank& term, Bounds bounds, bool keep_inside) {
  const Tensor sum = sum_plain(y, term);
  const Tensor inside = keep_inside ? within(sum, bounds) : Tensor();  // first: `sum` may be y itself
  y.copy_(at::clamp(sum, bounds.low, bounds.high));
  return inside;
}

void gate_low_rank_plain(Tensor& y, const LowRank& term, const Tensor& gate, Bounds bounds) {
  y.copy_(sum_plain(y, term).mul(within(gate, bounds)));
}

void add_low_rank(Tensor& y, const LowRank& term) {
  if (!term.h.defined()) return;
  if (fits(y, term, {}))
    run(y, term, simd::Epilogue::kNone, {}, {}, {});
  else if (!may_loop(y))
    add_on_device(y, term);
  else
    y.copy_(sum_plain(y, term));
}

Tensor clamp_low_rank(Tensor& y, const LowRank& term, Bounds bounds, bool keep_inside) {
  if (!may_loop(y)) return clamp_on_device(y, term, bounds, keep_inside);
  if (!fits(y, term, {})) return clamp_low_rank_plain(y, term, bounds, keep_inside);
  Tensor bits;
  if (keep_inside) bits = at::empty({y.size(0), (y.size(1) + 31) / 32}, y.options().dtype(torch::kInt));
  run(y, term, simd::Epilogue::kClamp, bounds, {}, bits);
  return bits;
}

void gate_low_rank(Tensor& y, const LowRank& term, const Tensor& gate, Bounds bounds, const Tensor& clamped) {
  if (!may_loop(y))
    gate_on_device(y, term, gate, bounds, clamped);
  else if (fits(y, term, gate))
    run(y, term, simd::Epilogue::kGate, bounds, gate, {});
  else
    gate_low_rank_plain(y, term, gate, bounds);
}

Tensor where_inside(const Tensor& dy, const Tensor& inside) {
  if (inside.scalar_type() == torch::kBool) return dy.mul(inside);
  Tensor out = at::empty_like(dy);
  const simd::Masked arguments{simd::bf16(dy), simd::data<std::uint32_t>(inside), simd::bf16(out), dy.size(1)};
  simd::for_rows(simd::low_rank_loops().masked, arguments, dy.size(0), dy.size(1));
  return out;
}

}  // namespace bezel::kernels
