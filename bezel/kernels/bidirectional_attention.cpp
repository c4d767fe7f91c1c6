#include "bezel/kernels/bidirectional_attention.h"

#include <algorithm>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/native/CPUBlas.h>

#include "bezel/io/divide_up.h"
#include "bezel/kernels/host_loops.h"
#include "bezel/kernels/packed_gemm.h"
#include "bezel/kernels/simd/dispatch.h"
#include "bezel/kernels/simd/tile_units.h"

namespace bezel::kernels {
namespace {

using simd::Bf16;
using torch::Tensor;
namespace blas = at::native::cpublas;
using Rows = std::vector<Bf16>;

// Patches are padded to whole blocks and heads to whole vectors, so that every product has one of few shapes.
constexpr std::int64_t kQueries = 32;  // of a block of the forward pass
constexpr std::int64_t kPanel = PackedB::kWidth;
// Rows of B that are multiplied at a time, keys and queries that meet in the backward pass: what a product
// walks through again and again stays in the first cache, a block's scores and all that is made of them in the second.
constexpr std::int64_t kBlock = 128;
constexpr std::int64_t kLanes = 16;
// A log_sum that makes every probability next to nothing: of rows beyond P, whose factors are zero anyway.
constexpr float kNoQuery = 1e30f;

// Tile units of which only LibTorch makes use.
bool uses_brgemm() { return simd::has_tile_units() && simd::tile_products() == nullptr; }

void product(const simd::Product& p) {
  if (!uses_brgemm()) return simd::multiply(p);
  blas::brgemm(p.rows, p.columns, p.inner, p.ld_a, p.ld_b, p.ld_c, p.add, reinterpret_cast<const c10::BFloat16*>(p.a),
               reinterpret_cast<const c10::BFloat16*>(p.b), p.c);
}

// c [rows, columns] = a [rows, inner] · panels of columns.
void panel_product(const Bf16* a, std::int64_t rows, std::int64_t ld_a, const Bf16* panels, std::int64_t inner,
                   std::int64_t columns, float* c, std::int64_t ld_c, bool add = false) {
  for (std::int64_t column = 0; column < columns; column += kPanel)
    product({a, panels + column * inner, c + column, rows, kPanel, inner, ld_a, kPanel, ld_c, add});
}

/// One head of [P, A, D]: `count` rows of `columns` elements, `stride` apart.
struct Head {
  const Bf16* data;
  std::int64_t count, columns, stride;

  Head(const Tensor& x, std::int64_t head)
      : data(simd::bf16(x) + head * x.size(2)), count(x.size(0)), columns(x.size(2)), stride(x.size(1) * x.size(2)) {}

  std::int64_t rows() const { return io::round_up(count, kPanel); }              // P'
  std::int64_t padded_columns() const { return io::round_up(columns, kLanes); }  // D'

  // [P', D']
  void copy_rows(Bf16* to) const {
    const std::int64_t width = padded_columns();
    for (std::int64_t i = 0; i < count; ++i, to += width) {
      std::copy_n(data + i * stride, columns, to);
      std::fill(to + columns, to + width, Bf16{0});
    }
    std::fill_n(to, (rows() - count) * width, Bf16{0});
  }
};

// B of a product over P', from rows [P', D']: neighboring rows in pairs [P' / 2, D', 2]. D' may be no
// whole number of blocks that PackedB takes.
void pack_pairs(const Rows& rows, std::int64_t width, Bf16* to) {
  simd::products().pack({rows.data(), width, static_cast<std::int64_t>(rows.size()) / width, to, width});
}

// Rows [first, first + count) of a head of `to` [P, A, D] from float32 [., width]; those beyond P are left out.
void store(const float* from, std::int64_t width, std::int64_t first, std::int64_t count, std::int64_t head,
           Tensor& to) {
  const std::int64_t columns = to.size(2), stride = to.size(1) * columns;
  simd::products().round({from, width, simd::bf16(to) + first * stride + head * columns, stride,
                          std::min(count, to.size(0) - first), columns});
}

/// One head of the backward pass: its factors as the products take them, and scratch for a block.
class HeadGradient {
 public:
  HeadGradient(const Tensor& q, const Tensor& k, const Tensor& v)
      : q_(q), k_(k), v_(v), rows_(Head(q, 0).rows()), width_(Head(q, 0).padded_columns()) {
    for (Rows* factor : {&k_rows_, &v_rows_, &k_transposed_, &q_pairs_, &d_pairs_, &copy_})
      factor->resize(rows_ * width_);
    for (PackedB* factor : {&q_columns_, &d_columns_}) factor->resize(width_, rows_);
    for (std::vector<float>* block : {&scores_, &d_weights_}) block->resize(kBlock * kBlock);
    for (Rows* block : {&weights_, &d_scores_, &d_score_pairs_}) block->resize(kBlock * kBlock);
    dk_.resize(kBlock * width_);
    dv_.resize(kBlock * width_);
    dq_.resize(rows_ * width_);
    delta_.resize(rows_);
  }

  void run(std::int64_t head, const Attended& attended, const Tensor& d_out, AttentionGradients& out) {
    pack(head, attended.out, d_out);
    log_sum_ = attended.log_sum.const_data_ptr<float>() + head * rows_;
    for (std::int64_t key = 0; key < rows_; key += kBlock) {
      const std::int64_t keys = std::min(kBlock, rows_ - key);
      for (std::int64_t query = 0; query < rows_; query += kBlock)
        add_block(key, keys, query, std::min(kBlock, rows_ - query));
      store(dk_.data(), width_, key, keys, head, out.k);
      store(dv_.data(), width_, key, keys, head, out.v);
    }
    store_queries(head, out.q);
  }

 private:
  void pack(std::int64_t head, const Tensor& out, const Tensor& d_out) {
    Head(v_, head).copy_rows(v_rows_.data());
    Head(k_, head).copy_rows(k_rows_.data());
    transpose({k_rows_.data(), width_, rows_, width_, k_transposed_.data(), rows_});
    Head(q_, head).copy_rows(copy_.data());
    q_columns_.pack_transposed(copy_.data(), rows_);
    pack_pairs(copy_, width_, q_pairs_.data());
    Head(d_out, head).copy_rows(copy_.data());
    d_columns_.pack_transposed(copy_.data(), rows_);
    pack_pairs(copy_, width_, d_pairs_.data());
    const Head y(out, head);
    simd::row_kernels().row_dots({y.data, y.stride, copy_.data(), width_, y.columns, delta_.data()}, 0, y.count);
  }

  // What `queries` from `query` on add to the gradients of a block of keys, and the keys to theirs.
  void add_block(std::int64_t key, std::int64_t keys, std::int64_t query, std::int64_t queries) {
    const Bf16 *k = k_rows_.data() + key * width_, *v = v_rows_.data() + key * width_;
    panel_product(k, keys, width_, q_columns_.at(0, query), width_, queries, scores_.data(), queries);
    panel_product(v, keys, width_, d_columns_.at(0, query), width_, queries, d_weights_.data(), queries);
    simd::attention_loops().gradient(
        {scores_.data(), d_weights_.data(), log_sum_ + query, delta_.data() + query, keys, queries,
         std::clamp<std::int64_t>(q_.size(0) - key, 0, keys), weights_.data(), d_scores_.data(), d_score_pairs_.data()},
        0, keys / 2);
    const bool add = query > 0;
    product({weights_.data(), d_pairs_.data() + query * width_, dv_.data(), keys, width_, queries, queries, width_,
             width_, add});
    product({d_scores_.data(), q_pairs_.data() + query * width_, dk_.data(), keys, width_, queries, queries, width_,
             width_, add});
    panel_product(k_transposed_.data() + key, width_, rows_, d_score_pairs_.data(), keys, queries, dq_.data() + query,
                  rows_, key > 0);
  }

  void store_queries(std::int64_t head, Tensor& to) const {
    std::vector<float> block(kPanel * width_);
    for (std::int64_t row = 0; row < rows_; row += kPanel) {
      for (std::int64_t column = 0; column < width_; ++column)
        for (std::int64_t i = 0; i < kPanel; ++i) block[i * width_ + column] = dq_[column * rows_ + row + i];
      store(block.data(), width_, row, kPanel, head, to);
    }
  }

  const Tensor &q_, &k_, &v_;
  std::int64_t rows_, width_;              // P', D'
  Rows k_rows_, v_rows_, k_transposed_;    // [P', D'], [P', D'], [D', P']
  PackedB q_columns_, d_columns_;          // [D', P']
  Rows q_pairs_, d_pairs_;                 // [P' / 2, D', 2]
  Rows copy_;                              // [P', D']
  std::vector<float> delta_;               // [P']: the sum of out * d_out of each query
  const float* log_sum_ = nullptr;         // [P']
  std::vector<float> scores_, d_weights_;  // of a block [keys, queries]
  Rows weights_, d_scores_;                // the same
  Rows d_score_pairs_;                     // panels of queries
  std::vector<float> dk_, dv_, dq_;        // of a block [keys, D'], the same, [D', P']
};

// Both factors of every head that are on the right of a product.
struct PackedHeads {
  std::vector<PackedB> k;  // [D', P'] of each head
  Rows v;                  // [A, P' / 2, D', 2]

  PackedHeads(const Tensor& keys, const Tensor& values) {
    const std::int64_t width = Head(keys, 0).padded_columns(), size = Head(keys, 0).rows() * width;
    k.resize(keys.size(1));
    v.resize(keys.size(1) * size);
    at::parallel_for(0, keys.size(1), 1, [&](std::int64_t begin, std::int64_t end) {
      Rows rows(size);
      for (std::int64_t head = begin; head < end; ++head) {
        Head(keys, head).copy_rows(rows.data());
        k[head].resize(width, Head(keys, head).rows());
        k[head].pack_transposed(rows.data(), Head(keys, head).rows());
        Head(values, head).copy_rows(rows.data());
        pack_pairs(rows, width, v.data() + head * size);
      }
    });
  }
};

}  // namespace

bool has_bidirectional_attention(const Tensor& q, const Tensor& k) {
  return may_loop(q) && q.scalar_type() == torch::kBFloat16 && k.sizes() == q.sizes();
}

Attended bidirectional_attention(const Tensor& given_q, const Tensor& given_k, const Tensor& given_v) {
  const Tensor q = given_q.contiguous();
  const std::int64_t heads = q.size(1), rows = Head(q, 0).rows(), width = Head(q, 0).padded_columns(), keys = q.size(0);
  const PackedHeads packed(given_k.contiguous(), given_v.contiguous());
  Attended result{at::empty_like(q), at::full({heads, rows}, kNoQuery, q.options().dtype(torch::kFloat))};
  const std::int64_t blocks = (keys + kQueries - 1) / kQueries;
  at::parallel_for(0, heads * blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    const simd::TileRegion region;
    std::vector<float> scores(kQueries * rows), sums(kQueries * width), log_sum(kQueries);
    Rows weights(kQueries * rows), queries(kQueries * width);
    for (std::int64_t b = begin; b < end; ++b) {
      const std::int64_t head = b / blocks, first = b % blocks * kQueries, count = std::min(kQueries, keys - first);
      const std::int64_t head_start = head * rows * width;
      for (std::int64_t i = 0; i < count; ++i)
        std::copy_n(simd::bf16(q) + ((first + i) * heads + head) * q.size(2), q.size(2), queries.data() + i * width);
      panel_product(queries.data(), kQueries, width, packed.k[head].at(0, 0), width, rows, scores.data(), rows);
      simd::attention_loops().softmax({scores.data(), rows, keys, weights.data(), log_sum.data()}, 0, kQueries);
      for (std::int64_t key = 0; key < rows; key += kBlock)
        product({weights.data() + key, packed.v.data() + head_start + key * width, sums.data(), kQueries, width,
                 std::min(kBlock, rows - key), rows, width, width, key > 0});
      store(sums.data(), width, first, count, head, result.out);
      std::copy_n(log_sum.data(), count, result.log_sum.data_ptr<float>() + head * rows + first);
    }
    if (uses_brgemm()) blas::brgemm_release();
  });
  return result;
}

AttentionGradients bidirectional_attention_backward(const Tensor& q, const Tensor& k, const Tensor& v,
                                                    const Attended& attended, const Tensor& gradient) {
  const Tensor queries = q.contiguous(), keys = k.contiguous(), values = v.contiguous(), d_out = gradient.contiguous();
  AttentionGradients out{at::empty_like(queries), at::empty_like(keys), at::empty_like(values)};
  at::parallel_for(0, q.size(1), 1, [&](std::int64_t begin, std::int64_t end) {
    const simd::TileRegion region;
    HeadGradient gradient_of(queries, keys, values);
    for (std::int64_t head = begin; head < end; ++head) gradient_of.run(head, attended, d_out, out);
    if (uses_brgemm()) blas::brgemm_release();
  });
  return out;
}

}  // namespace bezel::kernels
