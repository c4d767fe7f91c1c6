#include "bezel/kernels/attention.h"

#include <algorithm>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/native/CPUBlas.h>

#include "bezel/kernels/matmul.h"
#include "bezel/kernels/simd/functions.h"

namespace bezel::kernels {
namespace {

using torch::Tensor;
namespace blas = at::native::cpublas;

// Rows are padded to whole blocks, so that every product has one of few shapes.
constexpr std::int64_t kBlock = 32;
constexpr std::int64_t kProductColumns = 256;
constexpr float kNoQuery = 1e30f;  // a log_sum that makes every probability 0

c10::BFloat16* values(const Tensor& tensor) { return tensor.data_ptr<c10::BFloat16>(); }

// [H, T, D] -> [H, T', D] with rows of zeros at the end.
Tensor padded(const Tensor& x) {
  const std::int64_t missing = (kBlock - x.size(1) % kBlock) % kBlock;
  return missing == 0 ? x.contiguous() : at::constant_pad_nd(x, {0, 0, 0, missing});
}

// As the right factor of a product over D: xᵀ with neighbouring rows in pairs, [H, D / 2, T', 2].
Tensor pairs_of_columns(const Tensor& x) {
  return x.view(torch::kInt).transpose(1, 2).contiguous().view(torch::kBFloat16);
}

// As the right factor of a product over T': x with neighbouring rows in pairs, [H, T' / 2, D, 2].
Tensor pairs_of_rows(const Tensor& x) {
  return x.view({x.size(0), x.size(1) / 2, 2, x.size(2)}).transpose(2, 3).contiguous();
}

// c [rows, columns] (+)= a [rows, inner] · b, b in pairs of rows of ld_b; a few columns at a time.
void product(std::int64_t rows, std::int64_t columns, std::int64_t inner, const c10::BFloat16* a, std::int64_t ld_a,
             const c10::BFloat16* b, std::int64_t ld_b, float* c, bool add = false) {
  for (std::int64_t first = 0; first < columns; first += kProductColumns)
    blas::brgemm(rows, std::min(kProductColumns, columns - first), inner, ld_a, ld_b, columns, add, a, b + 2 * first,
                 c + first);
}

void store(const float* from, std::int64_t count, c10::BFloat16* to) {
  for (std::int64_t i = 0; i < count; ++i) to[i] = c10::BFloat16(from[i]);
}

// One head's tensors of the backward pass, and room for a block.
struct HeadGradient {
  std::int64_t rows, columns, keys;                              // T', D, T
  const c10::BFloat16 *k, *v, *k_t;                              // [T', D], [T', D], [D, T']
  const c10::BFloat16 *q_columns, *d_columns, *q_rows, *d_rows;  // in pairs
  const float *log_sum, *delta;                                  // [T']
  c10::BFloat16 *dk, *dv;                                        // [T', D]
  float* dq_t;                                                   // [D, T']
};

void head_gradient(const HeadGradient& head) {
  const std::int64_t rows = head.rows, columns = head.columns;
  std::vector<float> scores(kBlock * rows), d_scores(kBlock * rows), sums(kBlock * columns);
  std::vector<c10::BFloat16> weights(kBlock * rows), d_weights(kBlock * rows), d_pairs(kBlock * rows);
  const auto bits = [](std::vector<c10::BFloat16>& v) { return reinterpret_cast<simd::Bf16*>(v.data()); };
  for (std::int64_t key = 0; key < rows; key += kBlock) {
    const c10::BFloat16 *k = head.k + key * columns, *v = head.v + key * columns;
    product(kBlock, rows, columns, k, columns, head.q_columns, rows, scores.data());
    product(kBlock, rows, columns, v, columns, head.d_columns, rows, d_scores.data());
    simd::functions().attention_gradient(
        {scores.data(), d_scores.data(), head.log_sum, head.delta, rows,
         std::clamp<std::int64_t>(head.keys - key, 0, kBlock), bits(weights), bits(d_weights), bits(d_pairs)},
        0, kBlock / 2);
    product(kBlock, columns, rows, weights.data(), rows, head.d_rows, columns, sums.data());
    store(sums.data(), kBlock * columns, head.dv + key * columns);
    product(kBlock, columns, rows, d_weights.data(), rows, head.q_rows, columns, sums.data());
    store(sums.data(), kBlock * columns, head.dk + key * columns);
    product(columns, rows, kBlock, head.k_t + key, rows, d_pairs.data(), rows, head.dq_t, /*add=*/key > 0);
  }
}

}  // namespace

bool has_full_attention(const Tensor& q, const Tensor& k) {
  return q.is_cpu() && q.scalar_type() == torch::kBFloat16 && k.sizes() == q.sizes() && q.size(2) % 2 == 0 &&
         !widens(torch::kBFloat16, q.device()) && blas::could_pack(torch::kBFloat16);
}

Attended full_attention(const Tensor& q_rows, const Tensor& k_rows, const Tensor& v_rows) {
  const Tensor q = padded(q_rows), k = pairs_of_columns(padded(k_rows)), v = pairs_of_rows(padded(v_rows));
  const std::int64_t heads = q.size(0), rows = q.size(1), columns = q.size(2), keys = q_rows.size(1);
  Attended result{at::empty_like(q), at::full({heads, rows}, kNoQuery, q.options().dtype(torch::kFloat))};
  const std::int64_t blocks = rows / kBlock;
  at::parallel_for(0, heads * blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> scores(kBlock * rows), sums(kBlock * columns);
    std::vector<c10::BFloat16> weights(kBlock * rows);
    for (std::int64_t b = begin; b < end; ++b) {
      const std::int64_t head = b / blocks, first = b % blocks * kBlock, start = (head * rows + first) * columns;
      const std::int64_t head_start = head * rows * columns;
      product(kBlock, rows, columns, values(q) + start, columns, values(k) + head_start, rows, scores.data());
      float* log_sum = result.log_sum.data_ptr<float>() + head * rows + first;
      simd::functions().softmax({scores.data(), rows, keys, reinterpret_cast<simd::Bf16*>(weights.data()), log_sum}, 0,
                                kBlock);
      product(kBlock, columns, rows, weights.data(), rows, values(v) + head_start, columns, sums.data());
      store(sums.data(), kBlock * columns, values(result.out) + start);
      for (std::int64_t i = 0; i < kBlock; ++i)
        if (first + i >= keys) log_sum[i] = kNoQuery;
    }
    blas::brgemm_release();
  });
  result.out = result.out.narrow(1, 0, keys);
  return result;
}

AttentionGradients full_attention_backward(const Tensor& q_rows, const Tensor& k_rows, const Tensor& v_rows,
                                           const Attended& attended, const Tensor& d_rows) {
  const Tensor q = padded(q_rows), k = padded(k_rows), v = padded(v_rows), d = padded(d_rows);
  const std::int64_t heads = q.size(0), rows = q.size(1), columns = q.size(2), keys = q_rows.size(1);
  const Tensor products = d_rows.to(torch::kFloat).mul_(attended.out);
  const Tensor delta = at::constant_pad_nd(products.sum(-1), {0, rows - keys});  // [H, T']
  const Tensor q_columns = pairs_of_columns(q), d_columns = pairs_of_columns(d);
  const Tensor q_pairs = pairs_of_rows(q), d_pairs = pairs_of_rows(d), k_t = k.transpose(1, 2).contiguous();
  Tensor dk = at::empty_like(k), dv = at::empty_like(v);
  Tensor dq_t = at::empty({heads, columns, rows}, q.options().dtype(torch::kFloat));
  at::parallel_for(0, heads, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t head = begin; head < end; ++head) {
      const std::int64_t at = head * rows * columns;
      head_gradient({rows, columns, keys, values(k) + at, values(v) + at, values(k_t) + at, values(q_columns) + at,
                     values(d_columns) + at, values(q_pairs) + at, values(d_pairs) + at,
                     attended.log_sum.const_data_ptr<float>() + head * rows,
                     delta.const_data_ptr<float>() + head * rows, values(dk) + at, values(dv) + at,
                     dq_t.data_ptr<float>() + at});
    }
    blas::brgemm_release();
  });
  const auto cut = [&](const Tensor& x) { return x.narrow(1, 0, keys); };
  return {cut(dq_t.transpose(1, 2)).to(torch::kBFloat16), cut(dk), cut(dv)};
}

}  // namespace bezel::kernels
