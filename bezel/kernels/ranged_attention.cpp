#include "bezel/kernels/ranged_attention.h"

#include <algorithm>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/native/CPUBlas.h>

#include "bezel/kernels/matmul.h"
#include "bezel/kernels/simd/functions.h"

namespace bezel::kernels {
namespace {

using c10::BFloat16;
using torch::Tensor;
namespace blas = at::native::cpublas;

constexpr std::int64_t kRows = 64;   // of q, that one thread works on at a time
constexpr std::int64_t kKeys = 64;   // whose gradients one thread sums up at a time
constexpr std::int64_t kBlocks = 8;  // of rows, whose probabilities exist at a time in the backward pass

BFloat16* values(const Tensor& tensor) { return tensor.data_ptr<BFloat16>(); }
simd::Bf16* bits(BFloat16* of) { return reinterpret_cast<simd::Bf16*>(of); }

// A matrix by rows: where it begins, and how far it is from row to row.
template <typename T>
struct Rows {
  T* data;
  std::int64_t stride;
};

// Rows [row, …) of a matrix.
template <typename T>
Rows<T> from(Rows<T> matrix, std::int64_t row) {
  return {matrix.data + row * matrix.stride, matrix.stride};
}

struct Sizes {
  std::int64_t rows, columns, inner;
};

// c (+)= a · b on this thread; a factor may lie transposed in memory. BLAS counts by columns, so to it the factors
// change places.
void product(Sizes n, Rows<BFloat16> a, bool a_turned, Rows<BFloat16> b, bool b_turned, Rows<float> c, bool add) {
  const auto turned = [](bool is) {
    return is ? at::native::TransposeType::Transpose : at::native::TransposeType::NoTranspose;
  };
  blas::gemm(turned(b_turned), turned(a_turned), n.columns, n.rows, n.inner, 1.0f, b.data, b.stride, a.data, a.stride,
             add ? 1.0f : 0.0f, c.data, c.stride);
}

// [first, end), of rows or of keys.
struct Span {
  std::int64_t first, end;
  std::int64_t size() const { return std::max<std::int64_t>(end - first, 0); }
};

Span block(std::int64_t number, std::int64_t size, Span of) {
  const std::int64_t first = of.first + number * size;
  return {first, std::min(first + size, of.end)};
}

std::int64_t count_blocks(Span of, std::int64_t size) { return (of.size() + size - 1) / size; }

// Causal rows see more and more keys. Taking blocks from both ends in turn makes the threads' shares alike.
std::int64_t from_both_ends(std::int64_t i, std::int64_t count) { return i % 2 == 0 ? i / 2 : count - 1 - i / 2; }

// One head of a call.
class Head {
 public:
  Head(const RangedAttention& a, std::int64_t head)
      : rows(a.q.size(1)),
        columns(a.q.size(2)),
        keys(a.k.size(1)),
        group(rows / a.first.size(1)),
        q{values(a.q) + head * rows * columns, columns},
        k{values(a.k) + head * keys * columns, columns},
        v{values(a.v) + head * keys * columns, columns} {
    const std::int64_t row = head / (a.q.size(0) / a.first.size(0)) * a.first.size(1);
    first = a.first.const_data_ptr<std::int64_t>() + row;
    end = a.end.const_data_ptr<std::int64_t>() + row;
  }

  /// The keys between the first and the last that one of these rows sees.
  Span seen(Span of) const {
    Span all{keys, 0};
    for (std::int64_t i = of.first / group; i <= (of.end - 1) / group; ++i) {
      if (end[i] <= first[i]) continue;
      all = {std::min(all.first, first[i]), std::max(all.end, end[i])};
    }
    return all;
  }

  Span all_rows() const { return {0, rows}; }
  // Whole queries.
  std::int64_t block_rows() const { return std::max<std::int64_t>(kRows / group, 1) * group; }

  std::int64_t rows, columns, keys, group;
  Rows<BFloat16> q, k, v;
  const std::int64_t *first, *end;  // [Q]
};

// What one thread works in.
struct Room {
  std::vector<float> scores, d_weights, sums;
  std::vector<BFloat16> weights;
};

template <typename T>
T* at_least(std::vector<T>& room, std::int64_t size) {
  if (static_cast<std::int64_t>(room.size()) < size) room.resize(static_cast<std::size_t>(size));
  return room.data();
}

void round_to(BFloat16* to, const float* from, std::int64_t count) {
  simd::functions().round({from, bits(to)}, 0, count);
}

// Scores of `rows` against `keys`, [rows, keys] with the given stride.
void score(const Head& head, Rows<BFloat16> left, Rows<BFloat16> right, Span rows, Span keys, Rows<float> to) {
  product({rows.size(), keys.size(), head.columns}, from(left, rows.first), false, from(right, keys.first), true, to,
          false);
}

simd::RangedScores ranges_of(const Head& head, Span rows, Span keys) {
  simd::RangedScores task{};
  task.columns = keys.size();
  task.first = head.first + rows.first / head.group;
  task.end = head.end + rows.first / head.group;
  task.group = head.group;
  task.shift = keys.first;
  return task;
}

void attend(const Head& head, Span rows, Room& room, BFloat16* out, float* log_sum) {
  const Span keys = head.seen(rows);
  const std::int64_t width = keys.size();
  if (width == 0) {
    std::fill_n(out, rows.size() * head.columns, BFloat16(0.0f));
    std::fill_n(log_sum, rows.size(), 0.0f);
    return;
  }
  float *scores = at_least(room.scores, rows.size() * width), *sums = at_least(room.sums, rows.size() * head.columns);
  BFloat16* weights = at_least(room.weights, rows.size() * width);
  score(head, head.q, head.k, rows, keys, {scores, width});
  simd::RangedScores task = ranges_of(head, rows, keys);
  task.scores = scores;
  task.stride = width;
  task.weights = bits(weights);
  task.log_sum = log_sum;
  simd::functions().ranged_softmax(task, 0, rows.size());
  product({rows.size(), head.columns, width}, {weights, width}, false, from(head.v, keys.first), false,
          {sums, head.columns}, false);
  round_to(out, sums, rows.size() * head.columns);
}

// The backward pass of one head.
struct HeadGradient {
  const Head& head;
  Rows<BFloat16> out, d_out;  // [rows, D]
  float* log_sum;             // [rows]
  BFloat16* dq;               // [rows, D]
  float *dk, *dv;             // [S, D], sums so far

  /// Probabilities and gradients of the scores of a chunk of rows, [rows, width], and dq of it.
  void scores(Span rows, Span all, Rows<BFloat16> weights, Rows<BFloat16> d_scores, Room& room) const {
    const Span keys = head.seen(rows);
    const std::int64_t count = rows.size(), width = all.size();
    float *z = at_least(room.scores, count * width), *dw = at_least(room.d_weights, count * width);
    const std::int64_t skipped = keys.first - all.first;
    if (keys.size() > 0) {
      score(head, head.q, head.k, rows, keys, {z + skipped, width});
      score(head, d_out, head.v, rows, keys, {dw + skipped, width});
    }
    simd::RangedScores task = ranges_of(head, rows, all);
    task.scores = z;
    task.d_weights = dw;
    task.stride = width;
    task.weights = bits(weights.data);
    task.d_scores = bits(d_scores.data);
    task.log_sum = log_sum + rows.first;
    task.out = bits(from(out, rows.first).data);
    task.d_out = bits(from(d_out, rows.first).data);
    task.width = head.columns;
    simd::functions().ranged_gradient(task, 0, count);
    float* sums = at_least(room.sums, count * head.columns);
    if (keys.size() > 0)
      product({count, head.columns, keys.size()}, {d_scores.data + skipped, width}, false, from(head.k, keys.first),
              false, {sums, head.columns}, false);
    else
      std::fill_n(sums, count * head.columns, 0.0f);
    round_to(dq + rows.first * head.columns, sums, count * head.columns);
  }

  /// Adds what a chunk of rows gives to the gradients of `keys`, which are columns [keys.first - all.first, …).
  void sums(Span rows, Span all, Span keys, Rows<BFloat16> weights, Rows<BFloat16> d_scores) const {
    const Sizes sizes{keys.size(), head.columns, rows.size()};
    const std::int64_t column = keys.first - all.first, to = keys.first * head.columns;
    product(sizes, {weights.data + column, weights.stride}, true, from(d_out, rows.first), false,
            {dv + to, head.columns}, true);
    product(sizes, {d_scores.data + column, d_scores.stride}, true, from(head.q, rows.first), false,
            {dk + to, head.columns}, true);
  }

  void run() const {
    const std::int64_t step = head.block_rows();
    std::vector<BFloat16> weights_room, d_scores_room;
    for (std::int64_t c = 0; c < count_blocks(head.all_rows(), kBlocks * step); ++c) {
      const Span chunk = block(c, kBlocks * step, head.all_rows()), keys = head.seen(chunk);
      const std::int64_t width = keys.size();
      const Rows<BFloat16> weights{at_least(weights_room, chunk.size() * width), width};
      const Rows<BFloat16> d_scores{at_least(d_scores_room, chunk.size() * width), width};
      at::parallel_for(0, count_blocks(chunk, step), 1, [&](std::int64_t begin, std::int64_t end) {
        Room room;
        for (std::int64_t b = begin; b < end; ++b) {
          const Span rows = block(b, step, chunk);
          const std::int64_t row = rows.first - chunk.first;
          scores(rows, keys, from(weights, row), from(d_scores, row), room);
        }
      });
      at::parallel_for(0, count_blocks(keys, kKeys), 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t b = begin; b < end; ++b) sums(chunk, keys, block(b, kKeys, keys), weights, d_scores);
      });
    }
  }
};

}  // namespace

bool has_ranged_attention(const Tensor& q) {
  return q.is_cpu() && q.scalar_type() == torch::kBFloat16 && !widens(torch::kBFloat16, q.device());
}

Attended ranged_attention(const RangedAttention& a) {
  const std::int64_t heads = a.q.size(0), rows = a.q.size(1), columns = a.q.size(2);
  Attended result{at::empty_like(a.q), at::empty({heads, rows}, a.q.options().dtype(torch::kFloat))};
  const std::int64_t step = Head(a, 0).block_rows(), blocks = count_blocks({0, rows}, step);
  at::parallel_for(0, heads * blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    Room room;
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t b = from_both_ends(i, heads * blocks), head = b / blocks;
      const Span of = block(b % blocks, step, {0, rows});
      const std::int64_t row = head * rows + of.first;
      attend(Head(a, head), of, room, values(result.out) + row * columns, result.log_sum.data_ptr<float>() + row);
    }
  });
  return result;
}

AttentionGradients ranged_attention_backward(const RangedAttention& a, const Attended& attended, const Tensor& given) {
  const Tensor d_out = given.contiguous();
  const std::int64_t heads = a.q.size(0), rows = a.q.size(1), columns = a.q.size(2), keys = a.k.size(1);
  const auto wide = a.k.options().dtype(torch::kFloat);
  Tensor dq = at::empty_like(a.q), dk = at::zeros(a.k.sizes(), wide), dv = at::zeros(a.k.sizes(), wide);
  for (std::int64_t h = 0; h < heads; ++h) {
    const Head head(a, h);
    const std::int64_t at = h * rows * columns, at_key = h * keys * columns;
    HeadGradient{head,
                 {values(attended.out) + at, columns},
                 {values(d_out) + at, columns},
                 attended.log_sum.data_ptr<float>() + h * rows,
                 values(dq) + at,
                 dk.data_ptr<float>() + at_key,
                 dv.data_ptr<float>() + at_key}
        .run();
  }
  return {dq, dk.to(torch::kBFloat16), dv.to(torch::kBFloat16)};
}

}  // namespace bezel::kernels
