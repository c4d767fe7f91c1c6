#include "bezel/nn/low_rank_terms.h"

#include <utility>

#include <ATen/ATen.h>

#include "bezel/kernels/host_loops.h"
#include "bezel/kernels/matmul.h"
#include "bezel/kernels/skinny_gemm.h"
#include "bezel/nn/narrow_factors.h"

namespace bezel::nn {
namespace {

using torch::Tensor;

// x · aᵀ and x · b for factors as narrow as a rank. Only adapters' go this way: frozen matrices are multiplied alike in
// every storage.
Tensor rank_nt(const Tensor& x, const Tensor& a) {
  return kernels::has_skinny_gemm(x, a.size(0)) ? kernels::skinny_gemm(x, a.t()) : kernels::matmul_nt(x, a);
}
Tensor rank_nn(const Tensor& x, const Tensor& b) {
  return kernels::has_skinny_gemm(x, b.size(1)) ? kernels::skinny_gemm(x, b) : kernels::matmul_nn(x, b);
}

}  // namespace

// Of all adapted layers; nothing where they differ.
std::optional<double> LowRankTerms::common_scale() const {
  std::optional<double> scale;
  for (const Term& term : terms_) {
    if (term.rank == 0) continue;
    if (scale && *scale != term.scale) return std::nullopt;
    scale = term.scale;
  }
  return scale;
}

void LowRankTerms::add(const Adapter* adapter, Tensor norms) {
  Term& term = terms_.emplace_back();
  if (adapter == nullptr) return;
  const bool dora = norms.defined();
  const std::int64_t rank = adapter->a.size(0) * (adapter->start_a.defined() ? 2 : 1);
  term = {rank, adapter->scale, sum_ranks_, num_adapted_++, num_tensors_, std::move(norms)};
  if (const auto& narrow = NarrowFactors::current(); narrow && !adapter->start_a.defined()) {
    term.a = narrow->of(adapter->a);
    term.b = narrow->of(adapter->b);
  }
  sum_ranks_ += term.rank;
  num_tensors_ += dora ? 3 : 2;
}

void LowRankTerms::append_tensors(const Adapter* adapter, Tensors& tensors) {
  if (adapter == nullptr) return;
  tensors.push_back(adapter->whole_a());
  tensors.push_back(adapter->whole_b());
  if (adapter->magnitude.defined()) tensors.push_back(adapter->magnitude);
}

Tensor LowRankTerms::factor(std::size_t layer, const Tensors& tensors) const {
  const Term& term = terms_[layer];
  return tensors[term.tensor + 2] / term.norms;
}

void LowRankTerms::backward_factor(std::size_t layer, const Tensor& dy, const Tensor& product,
                                   Tensors& d_tensors) const {
  const Term& term = terms_[layer];
  d_tensors[term.tensor + 2] = (dy.to(torch::kFloat) * product).sum(0) / term.norms;
}

// A of all adapted layers, [R, in]; those that are rounded already in `dtype`.
Tensor LowRankTerms::stacked_a(const Tensors& tensors, torch::ScalarType dtype) const {
  std::vector<Tensor> parts;
  for (const Term& term : terms_)
    if (term.rank > 0)
      parts.push_back(term.a.defined() && term.a.scalar_type() == dtype ? term.a : tensors[term.tensor]);
  return stacked_rows(parts);
}

// B [out, r] of a layer, likewise.
Tensor LowRankTerms::factor_b(const Term& term, const Tensors& tensors, torch::ScalarType dtype) const {
  return term.b.defined() && term.b.scalar_type() == dtype ? term.b : tensors[term.tensor + 1];
}

Tensor LowRankTerms::scaled(const Tensor& h, const Term& term) const {
  return h.narrow(1, term.first, term.rank).mul(term.scale);
}

Tensor LowRankTerms::project(const Tensor& x, const Tensors& tensors) const {
  return kernels::may_loop(x) ? rank_nt(x, stacked_a(tensors, torch::kFloat)) : project_on_device(x, tensors);
}

// With the scales.
Tensor LowRankTerms::project_on_device(const Tensor& x, const Tensors& tensors) const {
  const Tensor a = stacked_a(tensors, x.scalar_type()).to(x.scalar_type());
  const std::optional<double> scale = common_scale();
  Tensor h = at::empty({x.size(0), sum_ranks_}, x.options());
  h.addmm_(x, a.t(), 0, scale.value_or(1.0));
  if (!scale)
    for (const Term& term : terms_)
      if (term.rank > 0) h.narrow(1, term.first, term.rank).mul_(term.scale);
  return h;
}

kernels::LowRank LowRankTerms::output_term(std::size_t layer, const Tensor& h, const Tensors& tensors) const {
  const Term& term = terms_[layer];
  if (term.rank == 0) return {};
  if (!kernels::may_loop(h)) return {h.narrow(1, term.first, term.rank), factor_b(term, tensors, h.scalar_type()).t()};
  return {scaled(h, term), tensors[term.tensor + 1].t()};
}

void LowRankTerms::backward_output(std::size_t layer, const Tensor& dy, const Tensor& h, const Tensors& tensors,
                                   bool wants_tensors, Tensors& dh, Tensors& d_tensors) const {
  const Term& term = terms_[layer];
  if (term.rank == 0) return;
  if (!kernels::may_loop(dy)) return backward_output_on_device(term, dy, h, tensors, wants_tensors, dh, d_tensors);
  dh.resize(num_adapted_);
  const std::size_t b = term.tensor + 1;
  dh[term.index] = rank_nn(dy, tensors[b]);  // [N, r], without the scale
  if (wants_tensors) d_tensors[b] = kernels::matmul_tn(dy, scaled(h, term));
}

// The gradients of h, with the scales, are columns of one matrix.
void LowRankTerms::backward_output_on_device(const Term& term, const Tensor& dy, const Tensor& h,
                                             const Tensors& tensors, bool wants_tensors, Tensors& dh,
                                             Tensors& d_tensors) const {
  if (dh.empty()) {
    const Tensor all = at::empty({dy.size(0), sum_ranks_}, dy.options());
    for (const Term& each : terms_)
      if (each.rank > 0) dh.push_back(all.narrow(1, each.first, each.rank));
  }
  const Tensor b = factor_b(term, tensors, dy.scalar_type()).to(dy.scalar_type());
  dh[term.index].addmm_(dy, b, 0, term.scale);
  if (wants_tensors) d_tensors[term.tensor + 1] = kernels::matmul_tn(dy, h.narrow(1, term.first, term.rank));
}

void LowRankTerms::backward_project(const Tensors& dh, const Tensor& x, Tensors& d_tensors) const {
  const Tensor da = kernels::matmul_tn(joined_columns(dh), x);  // [R, in]
  for (const Term& term : terms_) {
    if (term.rank == 0) continue;
    d_tensors[term.tensor] = da.narrow(0, term.first, term.rank);
    if (kernels::may_loop(x)) d_tensors[term.tensor].mul_(term.scale);
  }
}

kernels::LowRank LowRankTerms::input_term(const Tensors& dh, const Tensors& tensors) const {
  if (dh.empty()) return {};
  if (!kernels::may_loop(dh[0])) return {joined_columns(dh), stacked_a(tensors, dh[0].scalar_type())};
  Tensors parts;
  for (const Term& term : terms_)
    if (term.rank > 0) parts.push_back(dh[term.index] * term.scale);
  return {joined_columns(parts), stacked_a(tensors, torch::kFloat)};
}

}  // namespace bezel::nn
