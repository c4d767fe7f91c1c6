#include "bezel/nn/low_rank_terms.h"

#include <utility>

#include <ATen/ATen.h>

#include "bezel/kernels/host_loops.h"
#include "bezel/kernels/matmul.h"
#include "bezel/kernels/skinny_gemm.h"

namespace bezel::nn {
namespace {

using torch::Tensor;

Tensor joined(const std::vector<Tensor>& columns) { return columns.size() == 1 ? columns[0] : at::cat(columns, 1); }

// x · aᵀ and x · b for factors as narrow as a rank. Only adapters' go this way: frozen matrices are multiplied alike in
// every storage.
Tensor rank_nt(const Tensor& x, const Tensor& a) {
  return kernels::has_skinny_gemm(x, a.size(0)) ? kernels::skinny_gemm(x, a.t()) : kernels::matmul_nt(x, a);
}
Tensor rank_nn(const Tensor& x, const Tensor& b) {
  return kernels::has_skinny_gemm(x, b.size(1)) ? kernels::skinny_gemm(x, b) : kernels::matmul_nn(x, b);
}

// scale * xᵀ y in float32, with the scale inside the product.
Tensor scaled_tn(const Tensor& x, const Tensor& y, double scale) {
  const auto narrow = x.scalar_type() == torch::kFloat ? y.scalar_type() : x.scalar_type();
  const Tensor unread = at::empty({}, x.options().dtype(narrow));
  return at::addmm(unread, x.to(narrow).t(), y.to(narrow), 0, scale).to(torch::kFloat);
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

// A of all adapted layers, [R, in].
Tensor LowRankTerms::stacked_a(const Tensors& tensors) const {
  std::vector<Tensor> parts;
  for (const Term& term : terms_)
    if (term.rank > 0) parts.push_back(tensors[term.tensor]);
  return parts.size() == 1 ? parts[0] : at::cat(parts);
}

Tensor LowRankTerms::scaled(const Tensor& h, const Term& term) const {
  return h.narrow(1, term.first, term.rank).mul(term.scale);
}

Tensor LowRankTerms::project(const Tensor& x, const Tensors& tensors) const { return rank_nt(x, stacked_a(tensors)); }

kernels::LowRank LowRankTerms::output_term(std::size_t layer, const Tensor& h, const Tensors& tensors) const {
  const Term& term = terms_[layer];
  if (term.rank == 0) return {};
  if (!kernels::may_loop(h)) return {h.narrow(1, term.first, term.rank), tensors[term.tensor + 1].t(), term.scale};
  return {scaled(h, term), tensors[term.tensor + 1].t()};
}

void LowRankTerms::backward_output(std::size_t layer, const Tensor& dy, const Tensor& h, const Tensors& tensors,
                                   bool wants_tensors, Tensors& dh, Tensors& d_tensors) const {
  const Term& term = terms_[layer];
  if (term.rank == 0) return;
  dh.resize(num_adapted_);
  const std::size_t b = term.tensor + 1;
  dh[term.index] = rank_nn(dy, tensors[b]);  // [N, r], without the scale
  if (!wants_tensors) return;
  d_tensors[b] = kernels::may_loop(dy) ? kernels::matmul_tn(dy, scaled(h, term))
                                       : scaled_tn(dy, h.narrow(1, term.first, term.rank), term.scale);
}

void LowRankTerms::backward_project(const Tensors& dh, const Tensor& x, Tensors& d_tensors) const {
  if (const auto scale = common_scale(); scale && !kernels::may_loop(x)) {
    const Tensor da = scaled_tn(joined(dh), x, *scale);
    for (const Term& term : terms_)
      if (term.rank > 0) d_tensors[term.tensor] = da.narrow(0, term.first, term.rank);
    return;
  }
  const Tensor da = kernels::matmul_tn(joined(dh), x);  // [R, in]
  for (const Term& term : terms_)
    if (term.rank > 0) d_tensors[term.tensor] = da.narrow(0, term.first, term.rank).mul_(term.scale);
}

kernels::LowRank LowRankTerms::input_term(const Tensors& dh, const Tensors& tensors) const {
  if (dh.empty()) return {};
  if (const auto scale = common_scale(); scale && !kernels::may_loop(dh[0]))
    return {joined(dh), stacked_a(tensors), *scale};
  Tensors parts;
  for (const Term& term : terms_)
    if (term.rank > 0) parts.push_back(dh[term.index] * term.scale);
  return {joined(parts), stacked_a(tensors)};
}

}  // namespace bezel::nn
