#include "bezel/kernels/ranged_attention.h"

#include <algorithm>
#include <array>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "bezel/kernels/host_loops.h"
#include "bezel/kernels/packed_gemm.h"
#include "bezel/kernels/simd/dispatch.h"
#include "bezel/kernels/simd/tile_units.h"
#include "bezel/kernels/tile_runs.h"

namespace bezel::kernels {
namespace {

using simd::Bf16;
using torch::Tensor;

constexpr std::int64_t kTile = TileRuns::kTile;  // rows of q, and keys, that meet at a time
constexpr std::int64_t kChunkTiles = 8;          // of rows, in the backward pass

// Causal rows see more and more keys. Taking blocks from both ends in turn makes the threads' shares alike.
std::int64_t from_both_ends(std::int64_t i, std::int64_t count) { return i % 2 == 0 ? i / 2 : count - 1 - i / 2; }

// One head of a call. Sizes of what is packed are rounded up to whole tiles.
struct RangedHead {
  std::int64_t rows, columns, keys, group, ranges, ld_ranges;
  const Bf16 *q, *k, *v;            // [rows, D], [keys, D], [keys, D]
  const std::int64_t *first, *end;  // [R, Q], rows `ld_ranges` apart

  RangedHead(const RangedAttention& a, std::int64_t head)
      : rows(a.q.size(1)),
        columns(a.q.size(2)),
        keys(a.k.size(1)),
        group(rows / a.first.size(2)),
        ranges(a.first.size(0)),
        ld_ranges(a.first.size(1) * a.first.size(2)),
        q(simd::bf16(a.q) + head * rows * columns),
        k(simd::bf16(a.k) + head * keys * columns),
        v(simd::bf16(a.v) + head * keys * columns) {
    const std::int64_t row = head / (a.q.size(0) / a.first.size(1)) * a.first.size(2);
    first = a.first.const_data_ptr<std::int64_t>() + row;
    end = a.end.const_data_ptr<std::int64_t>() + row;
  }

  /// What a row sees of a range; nothing where there is no such row.
  Span seen_by(std::int64_t row, std::int64_t range) const {
    if (row >= rows) return {0, 0};
    const std::int64_t at = range * ld_ranges + row / group;
    return {first[at], end[at]};
  }

  /// For each range the whole tiles of keys between the first and the last key that a tile of rows sees.
  void find_seen(std::int64_t first_row, TileRuns& seen) const {
    seen.clear();
    for (std::int64_t range = 0; range < ranges; ++range) {
      Span all{keys, 0};
      for (std::int64_t row = first_row; row < std::min(first_row + kTile, rows); row += group - row % group)
        if (const Span one = seen_by(row, range); !one.empty())
          all = {std::min(all.first, one.first), std::max(all.end, one.end)};
      seen.add(all);
    }
    seen.join();
  }

  /// Rows [row, row + kTile) of x [rows, D], zero beyond the last.
  void copy_tile(const Bf16* x, std::int64_t row, std::int64_t count, Bf16* to) const {
    const std::int64_t real = std::clamp<std::int64_t>(count - row, 0, kTile) * columns;
    std::copy_n(x + row * columns, real, to);
    std::fill(to + real, to + kTile * columns, Bf16{0});
  }
};

void round_to(Bf16* to, const float* from, std::int64_t count) { simd::row_kernels().round({from, to}, 0, count); }

// Right factors of the forward pass: keys over D, values over keys.
struct PackedKeys {
  PackedB k, v;  // [D, S'], [S', D]

  void fill(const RangedHead& head, bool with_keys) {
    if (with_keys) {
      k.resize(head.columns, TileRuns::rounded_up(head.keys));
      k.pack_transposed(head.k, head.keys);
    } else {
      v.resize(TileRuns::rounded_up(head.keys), head.columns);
      v.pack(head.v, head.keys);
    }
  }
};

// What one thread of the forward pass works in.
struct ForwardScratch {
  std::vector<float> scores, sums;
  std::vector<Bf16> rows, weights;
  TileRuns keys;
  std::vector<std::int64_t> first, end;  // [R, kTile], places in `keys`
};

// Where the results of a tile of rows go.
struct TileResult {
  Bf16* out;
  float* log_sum;
};

// Ranges of a tile of rows among the keys of `scratch`.
void place_ranges(const RangedHead& head, std::int64_t row, ForwardScratch& scratch) {
  for (std::vector<std::int64_t>* bounds : {&scratch.first, &scratch.end}) bounds->assign(head.ranges * kTile, 0);
  for (std::int64_t range = 0; range < head.ranges; ++range)
    for (std::int64_t i = 0; i < kTile; ++i) {
      const Span seen = head.seen_by(row + i, range);
      if (seen.empty()) continue;
      const std::int64_t first = scratch.keys.place(seen.first);
      scratch.first[range * kTile + i] = first, scratch.end[range * kTile + i] = first + seen.size();
    }
}

void attend(const RangedHead& head, const PackedKeys& packed, std::int64_t row, ForwardScratch& scratch,
            TileResult result) {
  const std::int64_t count = std::min(kTile, head.rows - row), columns = head.columns;
  head.find_seen(row, scratch.keys);
  const std::int64_t width = scratch.keys.size();
  scratch.rows.resize(kTile * columns);
  scratch.sums.assign(kTile * columns, 0.0f);
  scratch.scores.resize(kTile * width);
  scratch.weights.resize(kTile * width);
  head.copy_tile(head.q, row, head.rows, scratch.rows.data());
  std::int64_t place = 0;
  for (const Span& keys : scratch.keys.runs()) {
    packed_gemm({scratch.rows.data(), kTile, columns}, packed.k, {0, columns, keys.first, keys.size()},
                {scratch.scores.data() + place, width});
    place += keys.size();
  }
  std::array<float, kTile> sums;
  place_ranges(head, row, scratch);
  simd::row_kernels().ranged_softmax({scratch.scores.data(), width, scratch.first.data(), scratch.end.data(),
                                      head.ranges, kTile, scratch.weights.data(), sums.data()},
                                     0, kTile);
  place = 0;
  for (const Span& keys : scratch.keys.runs()) {
    packed_gemm({scratch.weights.data() + place, kTile, width}, packed.v, {keys.first, keys.size(), 0, columns},
                {scratch.sums.data(), columns}, /*add=*/place > 0);
    place += keys.size();
  }
  round_to(result.out, scratch.sums.data(), count * columns);
  std::copy_n(sums.data(), count, result.log_sum);
}

// What the backward pass of one head reads and writes beside its factors.
struct RangedHeadGradient {
  const Bf16 *out, *d_out;         // [rows, D]
  const float* log_sum;            // [rows]
  std::vector<Bf16> k_transposed;  // [D, S']
  Bf16* dq;                        // [rows, D]
  float *dk, *dv;                  // [S', D], sums so far
};

// A few tiles of rows of q and all keys that they see. Each thread sums up the gradients of keys of its own.
class Chunk {
 public:
  Chunk(const RangedHead& head, const RangedHeadGradient& gradient) : head_(head), gradient_(gradient) {}

  void run(std::int64_t first_row) {
    pack(first_row);
    const auto tiles_of_keys = static_cast<std::int64_t>(all_.tiles().size());
    at::parallel_for(0, tiles_of_keys, 1, [&](std::int64_t begin, std::int64_t end) {
      const simd::TileRegion region;
      Scratch scratch(head_.columns);
      for (std::int64_t b = begin; b < end; ++b) add_to_keys(b, scratch);
    });
    at::parallel_for(0, tiles_, 1, [&](std::int64_t begin, std::int64_t end) {
      const simd::TileRegion region;
      std::vector<float> sums(head_.columns * kTile);
      std::vector<Bf16> rounded(head_.columns * kTile);
      for (std::int64_t t = begin; t < end; ++t) store_queries(t, sums.data(), rounded.data());
    });
  }

 private:
  // What one thread works in: a tile of keys, and where it meets a tile of rows.
  struct Scratch {
    std::vector<Bf16> k, v, weights, d_scores;
    std::vector<float> scores, d_weights;

    explicit Scratch(std::int64_t columns) {
      for (std::vector<Bf16>* rows : {&k, &v}) rows->resize(kTile * columns);
      for (std::vector<Bf16>* tile : {&weights, &d_scores}) tile->resize(kTile * kTile);
      for (std::vector<float>* tile : {&scores, &d_weights}) tile->resize(kTile * kTile);
    }
  };

  void pack(std::int64_t first_row) {
    first_row_ = first_row;
    const std::int64_t count = std::min(kChunkTiles * kTile, head_.rows - first_row),
                       padded = TileRuns::rounded_up(count);
    tiles_ = padded / kTile;
    const Bf16 *q = head_.q + first_row * head_.columns, *d_out = gradient_.d_out + first_row * head_.columns;
    for (PackedB* columns : {&q_columns_, &d_columns_}) columns->resize(head_.columns, padded);
    for (PackedB* rows : {&q_rows_, &d_rows_}) rows->resize(padded, head_.columns);
    at::parallel_for(0, 4, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        if (i == 0) q_columns_.pack_transposed(q, count);
        if (i == 1) q_rows_.pack(q, count);
        if (i == 2) d_columns_.pack_transposed(d_out, count);
        if (i == 3) d_rows_.pack(d_out, count);
      }
    });
    look_at_rows(padded);
    d_scores_.resize(std::max(all_.size(), kTile), padded);
  }

  // Ranges, sums and keys of the rows.
  void look_at_rows(std::int64_t padded) {
    for (std::vector<std::int64_t>* bounds : {&first_, &end_}) bounds->assign(head_.ranges * padded, 0);
    for (std::vector<float>* sums : {&log_sum_, &delta_}) sums->assign(padded, 0.0f);
    const std::int64_t columns = head_.columns, count = std::min(padded, head_.rows - first_row_);
    simd::for_rows(simd::row_kernels().row_dots,
                   {gradient_.out + first_row_ * columns, columns, gradient_.d_out + first_row_ * columns, columns,
                    columns, delta_.data()},
                   count, columns);
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t row = first_row_ + i;
      for (std::int64_t range = 0; range < head_.ranges; ++range) {
        const Span seen = head_.seen_by(row, range);
        first_[range * padded + i] = seen.first, end_[range * padded + i] = seen.end;
      }
      log_sum_[i] = gradient_.log_sum[row];
    }
    seen_.resize(tiles_);
    all_.clear();
    for (std::int64_t t = 0; t < tiles_; ++t) {
      head_.find_seen(first_row_ + t * kTile, seen_[t]);
      all_.add(seen_[t]);
    }
    all_.join();
  }

  // What the rows add to the gradients of a tile of keys; the gradients of their scores are kept for their own.
  void add_to_keys(std::int64_t tile_of_keys, Scratch& scratch) {
    const std::int64_t columns = head_.columns, key = all_.tiles()[tile_of_keys], ld = tiles_ * kTile;
    head_.copy_tile(head_.k, key, head_.keys, scratch.k.data());
    head_.copy_tile(head_.v, key, head_.keys, scratch.v.data());
    for (std::int64_t t = 0; t < tiles_; ++t) {
      if (!seen_[t].holds(key)) continue;
      const std::int64_t row = t * kTile;
      const Part left{0, columns, row, kTile}, right{row, kTile, 0, columns};
      packed_gemm({scratch.k.data(), kTile, columns}, q_columns_, left, {scratch.scores.data(), kTile});
      packed_gemm({scratch.v.data(), kTile, columns}, d_columns_, left, {scratch.d_weights.data(), kTile});
      simd::row_kernels().ranged_gradient(
          {scratch.scores.data(), scratch.d_weights.data(), log_sum_.data() + row, delta_.data() + row, kTile,
           first_.data() + row, end_.data() + row, head_.ranges, ld, key, scratch.weights.data(),
           scratch.d_scores.data(), d_scores_.at(tile_of_keys * kTile, row)},
          0, kTile / 2);
      const Sums dk{gradient_.dk + key * columns, columns}, dv{gradient_.dv + key * columns, columns};
      packed_gemm({scratch.weights.data(), kTile, kTile}, d_rows_, right, dv, /*add=*/true);
      packed_gemm({scratch.d_scores.data(), kTile, kTile}, q_rows_, right, dk, /*add=*/true);
    }
  }

  // The gradient of a tile of rows, made transposed.
  void store_queries(std::int64_t tile, float* sums, Bf16* rounded) const {
    const std::int64_t columns = head_.columns, row = tile * kTile, ld = TileRuns::rounded_up(head_.keys);
    std::fill_n(sums, columns * kTile, 0.0f);
    for (bool add = false; const Span& keys : seen_[tile].runs()) {
      packed_gemm({gradient_.k_transposed.data() + keys.first, columns, ld}, d_scores_,
                  {all_.place(keys.first), keys.size(), row, kTile}, {sums, kTile}, add);
      add = true;
    }
    round_to(rounded, sums, columns * kTile);
    const std::int64_t count = std::min(kTile, head_.rows - first_row_ - row);
    transpose({rounded, kTile, columns, count, gradient_.dq + (first_row_ + row) * columns, columns});
  }

  const RangedHead& head_;
  const RangedHeadGradient& gradient_;
  std::int64_t first_row_ = 0, tiles_ = 0;
  PackedB q_columns_, d_columns_;          // [D, rows]
  PackedB q_rows_, d_rows_;                // [rows, D]
  PackedB d_scores_;                       // [keys of all_, rows]
  std::vector<std::int64_t> first_, end_;  // [R, rows]
  std::vector<float> log_sum_, delta_;     // [rows]
  std::vector<TileRuns> seen_;             // keys that each tile of rows sees
  TileRuns all_;                           // and all of them
};

// [keys, D] -> [D, S'], zero beyond the keys.
std::vector<Bf16> transposed(const RangedHead& head) {
  const std::int64_t ld = TileRuns::rounded_up(head.keys);
  std::vector<Bf16> to(static_cast<std::size_t>(head.columns * ld), Bf16{0});
  at::parallel_for(0, head.columns, kTile, [&](std::int64_t begin, std::int64_t end) {
    transpose({head.k + begin, head.columns, head.keys, end - begin, to.data() + begin * ld, ld});
  });
  return to;
}

}  // namespace

bool has_ranged_attention(const Tensor& q) {
  return may_loop(q) && q.scalar_type() == torch::kBFloat16 && q.size(-1) % kTile == 0;
}

Attended ranged_attention(const RangedAttention& a) {
  const std::int64_t heads = a.q.size(0), rows = a.q.size(1), columns = a.q.size(2);
  Attended result{at::empty_like(a.q), at::empty({heads, rows}, a.q.options().dtype(torch::kFloat))};
  const std::int64_t tiles = TileRuns::rounded_up(rows) / kTile;
  std::vector<PackedKeys> packed(static_cast<std::size_t>(heads));
  at::parallel_for(0, 2 * heads, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) packed[i / 2].fill(RangedHead(a, i / 2), i % 2 == 0);
  });
  at::parallel_for(0, heads * tiles, 1, [&](std::int64_t begin, std::int64_t end) {
    const simd::TileRegion region;
    ForwardScratch scratch;
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t t = from_both_ends(i, heads * tiles), head = t / tiles, row = t % tiles * kTile;
      const std::int64_t at = head * rows + row;
      attend(RangedHead(a, head), packed[head], row, scratch,
             {simd::bf16(result.out) + at * columns, result.log_sum.data_ptr<float>() + at});
    }
  });
  return result;
}

AttentionGradients ranged_attention_backward(const RangedAttention& a, const Attended& attended, const Tensor& given) {
  const Tensor d_out = given.contiguous();
  const std::int64_t heads = a.q.size(0), rows = a.q.size(1), columns = a.q.size(2), keys = a.k.size(1);
  const std::vector<std::int64_t> padded{heads, TileRuns::rounded_up(keys), columns};
  const auto wide = a.k.options().dtype(torch::kFloat);
  Tensor dq = at::empty_like(a.q), dk = at::zeros(padded, wide), dv = at::zeros(padded, wide);
  const auto run_heads = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t h = begin; h < end; ++h) {
      const RangedHead head(a, h);
      const std::int64_t at = h * rows * columns, at_key = h * padded[1] * columns;
      const RangedHeadGradient gradient{simd::bf16(attended.out) + at,
                                        simd::bf16(d_out) + at,
                                        attended.log_sum.const_data_ptr<float>() + h * rows,
                                        transposed(head),
                                        simd::bf16(dq) + at,
                                        dk.data_ptr<float>() + at_key,
                                        dv.data_ptr<float>() + at_key};
      Chunk chunk(head, gradient);
      for (std::int64_t row = 0; row < rows; row += kChunkTiles * kTile) chunk.run(row);
    }
  };
  // Of many heads, each on one thread, so that threads meet once. Few heads: all threads work on one after the other.
  if (heads >= 4 * at::get_num_threads())
    at::parallel_for(0, heads, 1, run_heads);
  else
    run_heads(0, heads);
  const auto rounded = [&](const Tensor& sums) { return sums.narrow(1, 0, keys).to(torch::kBFloat16); };
  return {dq, rounded(dk), rounded(dv)};
}

}  // namespace bezel::kernels
