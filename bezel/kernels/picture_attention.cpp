#include "bezel/kernels/picture_attention.h"

#include <algorithm>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/native/CPUBlas.h>

#include "bezel/kernels/simd/functions.h"

namespace bezel::kernels {
namespace {

using simd::Bf16;
using torch::Tensor;
namespace blas = at::native::cpublas;
using Rows = std::vector<Bf16>;

// Patches are padded to whole blocks and heads to whole vectors, so that every product has one of few shapes.
constexpr std::int64_t kQueries = 32;         // of a block of the forward pass
constexpr std::int64_t kKeys = 64;            // of a block of the backward pass
constexpr std::int64_t kQueriesOfKeys = 512;  // queries that such a block meets at a time: what fits the second cache
constexpr std::int64_t kLanes = 16;
constexpr float kNoQuery = 1e30f;  // a log_sum that makes every probability 0

std::int64_t rounded_up(std::int64_t value, std::int64_t to) { return (value + to - 1) / to * to; }

// On the tile units a few columns at a time.
void product(const simd::Product& p) {
  if (!simd::has_tile_units()) return simd::products().product(p);
  constexpr std::int64_t kColumns = 256;
  const auto* a = reinterpret_cast<const c10::BFloat16*>(p.a);
  const auto* b = reinterpret_cast<const c10::BFloat16*>(p.b);
  for (std::int64_t first = 0; first < p.columns; first += kColumns)
    blas::brgemm(p.rows, std::min(kColumns, p.columns - first), p.inner, p.ld_a, p.ld_b, p.ld_c, p.add, a,
                 b + 2 * first, p.c + first);
}

/// One head of [P, A, D]: `count` rows of `columns` elements, `stride` apart.
struct Head {
  const Bf16* data;
  std::int64_t count, columns, stride;

  Head(const Tensor& x, std::int64_t head)
      : data(simd::bf16(x) + head * x.size(2)), count(x.size(0)), columns(x.size(2)), stride(x.size(1) * x.size(2)) {}

  std::int64_t rows() const { return rounded_up(count, kKeys); }               // P'
  std::int64_t padded_columns() const { return rounded_up(columns, kLanes); }  // D'

  const Bf16* row(std::int64_t i) const { return data + i * stride; }
  void clear(Bf16* to) const { std::fill_n(to, rows() * padded_columns(), Bf16{0}); }

  // [P', D']
  void pack_rows(Bf16* to) const {
    clear(to);
    for (std::int64_t i = 0; i < count; ++i) std::copy_n(row(i), columns, to + i * padded_columns());
  }
  // [D', P']
  void pack_transposed(Bf16* to) const {
    clear(to);
    for (std::int64_t i = 0; i < count; ++i)
      for (std::int64_t column = 0; column < columns; ++column) to[column * rows() + i] = row(i)[column];
  }
  // The right factor of a product over D': the transposed, with neighbouring rows in pairs [D' / 2, P', 2].
  void pack_column_pairs(Bf16* to) const {
    clear(to);
    for (std::int64_t i = 0; i < count; ++i)
      for (std::int64_t column = 0; column < columns; column += 2)
        std::copy_n(row(i) + column, std::min<std::int64_t>(2, columns - column), to + column * rows() + 2 * i);
  }
  // The right factor of a product over P': neighbouring rows in pairs [P' / 2, D', 2].
  void pack_row_pairs(Bf16* to) const {
    clear(to);
    for (std::int64_t i = 0; i < count; ++i)
      for (std::int64_t column = 0; column < columns; ++column)
        to[i / 2 * 2 * padded_columns() + 2 * column + i % 2] = row(i)[column];
  }
};

// Rows [first, first + count) of a head of `to` [P, A, D] from float32 [., width]; those beyond P are left out.
void store(const float* from, std::int64_t width, std::int64_t first, std::int64_t count, std::int64_t head,
           Tensor& to) {
  const std::int64_t columns = to.size(2);
  auto* out = to.data_ptr<c10::BFloat16>();
  for (std::int64_t row = 0; row < std::min(count, to.size(0) - first); ++row)
    for (std::int64_t column = 0; column < columns; ++column)
      out[((first + row) * to.size(1) + head) * columns + column] = c10::BFloat16(from[row * width + column]);
}

/// One head of the backward pass: its factors as the products take them, and room for a block.
class HeadGradient {
 public:
  HeadGradient(const Tensor& q, const Tensor& k, const Tensor& v)
      : q_(q), k_(k), v_(v), rows_(Head(q, 0).rows()), width_(Head(q, 0).padded_columns()) {
    for (Rows* packed : {&k_rows_, &v_rows_, &k_transposed_, &q_columns_, &d_columns_, &q_pairs_, &d_pairs_})
      packed->resize(rows_ * width_);
    for (std::vector<float>* block : {&scores_, &d_weights_}) block->resize(kKeys * kQueriesOfKeys);
    for (Rows* block : {&weights_, &d_scores_, &d_score_pairs_}) block->resize(kKeys * kQueriesOfKeys);
    dk_.resize(kKeys * width_);
    dv_.resize(kKeys * width_);
    dq_.resize(rows_ * width_);
    delta_.resize(rows_);
  }

  void run(std::int64_t head, const Attended& attended, const Tensor& d_out, AttentionGradients& out) {
    pack(head, attended.out, d_out);
    log_sum_ = attended.log_sum.const_data_ptr<float>() + head * rows_;
    for (std::int64_t key = 0; key < rows_; key += kKeys) {
      for (std::int64_t query = 0; query < rows_; query += kQueriesOfKeys)
        add_block(key, query, std::min(kQueriesOfKeys, rows_ - query));
      store(dk_.data(), width_, key, kKeys, head, out.k);
      store(dv_.data(), width_, key, kKeys, head, out.v);
    }
    store_queries(head, out.q);
  }

 private:
  void pack(std::int64_t head, const Tensor& out, const Tensor& d_out) {
    const Head d(d_out, head), y(out, head);
    Head(k_, head).pack_rows(k_rows_.data());
    Head(k_, head).pack_transposed(k_transposed_.data());
    Head(v_, head).pack_rows(v_rows_.data());
    Head(q_, head).pack_column_pairs(q_columns_.data());
    Head(q_, head).pack_row_pairs(q_pairs_.data());
    d.pack_column_pairs(d_columns_.data());
    d.pack_row_pairs(d_pairs_.data());
    for (std::int64_t row = 0; row < d.count; ++row) {
      const auto at = [&](const Head& x, std::int64_t i) {
        return static_cast<float>(reinterpret_cast<const c10::BFloat16*>(x.data)[row * x.stride + i]);
      };
      float sum = 0.0f;
      for (std::int64_t i = 0; i < d.columns; ++i) sum += at(y, i) * at(d, i);
      delta_[row] = sum;
    }
  }

  // What `count` queries from `query` on add to the gradients of a block of keys, and the keys to theirs.
  void add_block(std::int64_t key, std::int64_t query, std::int64_t count) {
    const Bf16 *k = k_rows_.data() + key * width_, *v = v_rows_.data() + key * width_;
    product({k, q_columns_.data() + 2 * query, scores_.data(), kKeys, count, width_, width_, rows_, count});
    product({v, d_columns_.data() + 2 * query, d_weights_.data(), kKeys, count, width_, width_, rows_, count});
    simd::attention_loops().gradient({scores_.data(), d_weights_.data(), log_sum_ + query, delta_.data() + query, count,
                                      std::clamp<std::int64_t>(q_.size(0) - key, 0, kKeys), weights_.data(),
                                      d_scores_.data(), d_score_pairs_.data()},
                                     0, kKeys / 2);
    const bool add = query > 0;
    product({weights_.data(), d_pairs_.data() + query * width_, dv_.data(), kKeys, width_, count, count, width_, width_,
             add});
    product({d_scores_.data(), q_pairs_.data() + query * width_, dk_.data(), kKeys, width_, count, count, width_,
             width_, add});
    product({k_transposed_.data() + key, d_score_pairs_.data(), dq_.data() + query, width_, count, kKeys, rows_, count,
             rows_, key > 0});
  }

  void store_queries(std::int64_t head, Tensor& to) const {
    const std::int64_t columns = to.size(2);
    auto* out = to.data_ptr<c10::BFloat16>();
    for (std::int64_t row = 0; row < to.size(0); ++row)
      for (std::int64_t column = 0; column < columns; ++column)
        out[(row * to.size(1) + head) * columns + column] = c10::BFloat16(dq_[column * rows_ + row]);
  }

  const Tensor &q_, &k_, &v_;
  std::int64_t rows_, width_;                // P', D'
  Rows k_rows_, v_rows_, k_transposed_;      // [P', D'], [P', D'], [D', P']
  Rows q_columns_, d_columns_;               // [D' / 2, P', 2]
  Rows q_pairs_, d_pairs_;                   // [P' / 2, D', 2]
  std::vector<float> delta_;                 // [P']: the sum of out * d_out of each query
  const float* log_sum_ = nullptr;           // [P']
  std::vector<float> scores_, d_weights_;    // [keys, queries of a block]
  Rows weights_, d_scores_, d_score_pairs_;  // the same
  std::vector<float> dk_, dv_, dq_;          // [keys of a block, D'], the same, [D', P']
};

// Both factors of every head that are on the right of a product.
struct PackedHeads {
  Rows k, v;  // [A, D' / 2, P', 2], [A, P' / 2, D', 2]

  PackedHeads(const Tensor& keys, const Tensor& values) {
    const std::int64_t size = Head(keys, 0).rows() * Head(keys, 0).padded_columns();
    k.resize(keys.size(1) * size);
    v.resize(keys.size(1) * size);
    at::parallel_for(0, keys.size(1), 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t head = begin; head < end; ++head) {
        Head(keys, head).pack_column_pairs(k.data() + head * size);
        Head(values, head).pack_row_pairs(v.data() + head * size);
      }
    });
  }
};

}  // namespace

bool has_picture_attention(const Tensor& q, const Tensor& k) {
  return q.is_cpu() && q.scalar_type() == torch::kBFloat16 && k.sizes() == q.sizes();
}

Attended picture_attention(const Tensor& given_q, const Tensor& given_k, const Tensor& given_v) {
  const Tensor q = given_q.contiguous();
  const std::int64_t heads = q.size(1), rows = Head(q, 0).rows(), width = Head(q, 0).padded_columns(), keys = q.size(0);
  const PackedHeads packed(given_k.contiguous(), given_v.contiguous());
  Attended result{at::empty_like(q), at::full({heads, rows}, kNoQuery, q.options().dtype(torch::kFloat))};
  const std::int64_t blocks = (keys + kQueries - 1) / kQueries;
  at::parallel_for(0, heads * blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> scores(kQueries * rows), sums(kQueries * width), log_sum(kQueries);
    Rows weights(kQueries * rows), queries(kQueries * width);
    for (std::int64_t b = begin; b < end; ++b) {
      const std::int64_t head = b / blocks, first = b % blocks * kQueries, count = std::min(kQueries, keys - first);
      const std::int64_t head_start = head * rows * width;
      for (std::int64_t i = 0; i < count; ++i)
        std::copy_n(simd::bf16(q) + ((first + i) * heads + head) * q.size(2), q.size(2), queries.data() + i * width);
      product({queries.data(), packed.k.data() + head_start, scores.data(), kQueries, rows, width, width, rows, rows});
      simd::attention_loops().softmax({scores.data(), rows, keys, weights.data(), log_sum.data()}, 0, kQueries);
      product({weights.data(), packed.v.data() + head_start, sums.data(), kQueries, width, rows, rows, width, width});
      store(sums.data(), width, first, count, head, result.out);
      std::copy_n(log_sum.data(), count, result.log_sum.data_ptr<float>() + head * rows + first);
    }
    if (simd::has_tile_units()) blas::brgemm_release();
  });
  return result;
}

AttentionGradients picture_attention_backward(const Tensor& q, const Tensor& k, const Tensor& v,
                                              const Attended& attended, const Tensor& gradient) {
  const Tensor queries = q.contiguous(), keys = k.contiguous(), values = v.contiguous(), d_out = gradient.contiguous();
  AttentionGradients out{at::empty_like(queries), at::empty_like(keys), at::empty_like(values)};
  at::parallel_for(0, q.size(1), 1, [&](std::int64_t begin, std::int64_t end) {
    HeadGradient gradient_of(queries, keys, values);
    for (std::int64_t head = begin; head < end; ++head) gradient_of.run(head, attended, d_out, out);
    if (simd::has_tile_units()) blas::brgemm_release();
  });
  return out;
}

}  // namespace bezel::kernels
