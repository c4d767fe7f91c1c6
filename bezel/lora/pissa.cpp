#include "bezel/lora/pissa.h"

#include <tuple>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

namespace bezel::lora {
namespace {

using torch::Tensor;

// The largest singular values [r] of a matrix, with their vectors as columns [out, r] and rows [r, in].
struct Directions {
  Tensor left, values, right;
};

// By the eigenvectors of W Wᵀ in double precision, on the smaller side: an SVD of a layer takes several times as long.
Directions exact(const Tensor& matrix, std::int64_t rank) {
  if (matrix.size(0) > matrix.size(1)) {
    const Directions of = exact(matrix.t(), rank);
    return {of.right.t(), of.values, of.left.t()};
  }
  const Tensor wide = matrix.to(torch::kDouble);
  const auto [squares, vectors] = at::linalg_eigh(wide.mm(wide.t()));  // ascending
  const Tensor left = vectors.narrow(1, vectors.size(1) - rank, rank).flip({1});
  const Tensor along = left.t().mm(wide);  // [r, in], each as long as its singular value
  const Tensor values = along.norm(2, {1}, /*keepdim=*/false).clamp_min(1e-300);  // [r]
  return {left, values, along / values.unsqueeze(1)};
}

// Reference: torch.svd_lowrank, Algorithm 5.1 of Halko et al., arXiv 0909.4061.
Directions iterated(const Tensor& matrix, std::int64_t rank, std::int64_t iterations) {
  const auto basis = [](const Tensor& columns) { return std::get<0>(at::linalg_qr(columns)); };
  Tensor q = basis(matrix.mm(at::randn({matrix.size(1), rank}, matrix.options())));  // [out, r]
  for (std::int64_t i = 0; i < iterations; ++i) q = basis(matrix.mm(basis(matrix.t().mm(q))));
  const auto [left, values, right] = at::linalg_svd(q.t().mm(matrix), /*full_matrices=*/false);
  return {q.mm(left), values, right};
}

}  // namespace

std::pair<Tensor, Tensor> pissa_factors(const quant::Weight& weight, std::int64_t rank, double scale,
                                        const Pissa& how) {
  const at::NoGradGuard no_grad;
  const Tensor matrix = weight.dequantize(torch::kFloat);
  const Directions found = how.iterations == 0 ? exact(matrix, rank) : iterated(matrix, rank, how.iterations);
  const Tensor roots = (found.values / scale).sqrt();  // [r]
  return {(found.right * roots.unsqueeze(1)).to(torch::kFloat).contiguous(),
          (found.left * roots).to(torch::kFloat).contiguous()};
}

}  // namespace bezel::lora
