#include "bezel/kernels/one_query_attention.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include "bezel/io/divide_up.h"
#include "bezel/kernels/host_loops.h"
#include "bezel/kernels/simd/dispatch.h"

namespace bezel::kernels {
namespace {

using torch::Tensor;

// The first tokens of a cache are such a part.
bool has_whole_heads(const Tensor& x) {
  return may_loop(x) && x.scalar_type() == torch::kBFloat16 && x.stride(3) == 1 && x.stride(2) == x.size(3) &&
         (x.size(0) == 1 || x.stride(0) == x.stride(1) * x.size(1));
}

}  // namespace

bool has_one_query_attention(const Tensor& q, const Tensor& k, const Tensor& v) {
  const bool wants_gradient =
      at::GradMode::is_enabled() && (q.requires_grad() || k.requires_grad() || v.requires_grad());
  return !wants_gradient && may_loop(q) && q.scalar_type() == torch::kBFloat16 && q.size(2) == 1 &&
         q.size(3) % 32 == 0 && k.size(2) > 0 && has_whole_heads(k) && has_whole_heads(v);
}

Tensor one_query_attention(const Tensor& q, const Tensor& k, const Tensor& v) {
  TORCH_CHECK(has_one_query_attention(q, k, v) && q.size(1) % k.size(1) == 0 && k.sizes() == v.sizes(), q.sizes(),
              " attends ", k.sizes());
  const std::int64_t heads = k.size(0) * k.size(1), group = q.size(1) / k.size(1), keys = k.size(2);
  // Query heads of a task read keys once together: four, unless threads would be left without.
  const std::int64_t chunk = std::clamp<std::int64_t>(heads * group / at::get_num_threads(), 1, 4);
  const std::int64_t tasks_of_head = io::divide_up(group, chunk);
  const Tensor wide = q.contiguous().to(torch::kFloat);
  const std::int64_t row = io::round_up(keys, 16);
  Tensor scores = at::empty({heads * group, row}, wide.options()), out = at::empty(q.sizes(), q.options());
  const simd::OneQuery arguments{
      simd::data<float>(wide),   simd::bf16(k), simd::bf16(v),  k.stride(1), v.stride(1), keys, q.size(3), group, chunk,
      simd::data<float>(scores), row,           simd::bf16(out)};
  at::parallel_for(0, heads * tasks_of_head, 1, [&](std::int64_t begin, std::int64_t end) {
    simd::attention_loops().one_query(arguments, begin, end);
  });
  return out;
}

}  // namespace bezel::kernels
