// Compiled once for each instruction set, with BEZEL_SIMD_ATTENTION_LOOPS naming what it defines.
#include "bezel/kernels/simd/attention.h"

#include <cmath>

#include "bezel/kernels/simd/exponential.h"
#include "bezel/kernels/simd/product.h"
#include "bezel/kernels/simd/vectors.h"

namespace bezel::kernels::simd {
namespace {

// exponential() for x <= 88, a vector at a time.
inline Floats exponentials(Floats x) {
  const Floats least = Floats{} - 87.3f, magic = Floats{} + 12582912.0f;  // its last bit is 1: rounds to integers
  const Floats bounded = x < least ? least : x;
  const Floats shifted = bounded * kInverseLn2 + magic;
  const Floats e = exponential_of_rest(exponent_rest(bounded, shifted - magic));
  const Words power = (reinterpret_cast<Words>(shifted) - reinterpret_cast<Words>(magic) + 127u) << 23;
  return e * reinterpret_cast<Floats>(power);
}

// Of `count` elements, a multiple of kWide and not 0.
inline float largest_of(const float* from, std::int64_t count) {
  Floats most_of_each = load<Floats>(from);
  for (std::int64_t i = kWide; i < count; i += kWide) {
    const Floats x = load<Floats>(from + i);
    most_of_each = x > most_of_each ? x : most_of_each;
  }
  float most = most_of_each[0];
  for (std::int64_t i = 1; i < kWide; ++i) most = most_of_each[i] > most ? most_of_each[i] : most;
  return most;
}

void softmax(const Softmax& a, std::int64_t begin, std::int64_t end) {
  const std::int64_t whole = a.seen - a.seen % kWide;
  for (std::int64_t n = begin; n < end; ++n) {
    float* z = a.scores + n * a.columns;
    for (std::int64_t i = a.seen; i < a.columns; ++i) z[i] = -INFINITY;
    const float most = largest_of(z, a.columns);
    Floats sums{};
    for (std::int64_t i = 0; i < whole; i += kWide) {
      const Floats weights = exponentials(load<Floats>(z + i) - most);
      store(z + i, weights);
      sums += weights;
    }
    float sum = sum_of(sums);
    if (whole < a.columns) {
      store(z + whole, exponentials(load<Floats>(z + whole) - most));
      for (std::int64_t i = whole; i < a.seen; ++i) sum += z[i];
      for (std::int64_t i = a.seen; i < a.columns; ++i) z[i] = 0.0f;
    }
    const float inverse = 1.0f / sum;
    Bf16* weights = a.weights + n * a.columns;
    for (std::int64_t i = 0; i < a.columns; i += kWide) store_narrow(weights + i, load<Floats>(z + i) * inverse);
    a.log_sum[n] = most + std::log(sum);
  }
}

// One vector of a row: its weights are stored, and the gradients of its scores, which are returned.
inline HalfWords gradient_of(const AttentionGradient& a, std::int64_t n, std::int64_t i) {
  const std::int64_t at = n * a.columns + i;
  const Floats weights = exponentials(load<Floats>(a.scores + at) - load<Floats>(a.log_sum + i));
  const Floats seen = n < a.seen ? weights : Floats{};
  store_narrow(a.weights + at, seen);
  const HalfWords bits = narrow_bits(seen * (load<Floats>(a.d_weights + at) - load<Floats>(a.delta + i)));
  store(a.d_scores + at, bits);
  return bits;
}

void gradient(const AttentionGradient& a, std::int64_t begin, std::int64_t end) {
  for (std::int64_t pair = begin; pair < end; ++pair)
    for (std::int64_t i = 0; i < a.columns; i += kWide) {
      const HalfWords first = gradient_of(a, 2 * pair, i), second = gradient_of(a, 2 * pair + 1, i);
      const std::int64_t panel = i / kPackedWidth, column = i % kPackedWidth;
      store(a.d_pairs + panel * a.rows * kPackedWidth + 2 * (pair * kPackedWidth + column), pairs_of(first, second));
    }
}

// Scores of kHeads query heads, each key read once.
template <std::int64_t kHeads>
void scores_of(const OneQuery& a, const float* q, const Bf16* k, float* scores) {
  for (std::int64_t key = 0; key < a.keys; ++key) {
    Floats sums[kHeads] = {};
    for (std::int64_t i = 0; i < a.columns; i += kWide) {
      const Floats values = load_wide(k + key * a.columns + i);
      for (std::int64_t h = 0; h < kHeads; ++h) sums[h] += values * load<Floats>(q + h * a.columns + i);
    }
    for (std::int64_t h = 0; h < kHeads; ++h) scores[h * a.ld_scores + key] = sum_of(sums[h]);
  }
}

// Scores -> exp(score - the largest); returns one over their sum.
float weights_of(const OneQuery& a, float* scores) {
  for (std::int64_t i = a.keys; i < a.ld_scores; ++i) scores[i] = -INFINITY;
  const float most = largest_of(scores, a.ld_scores);
  Floats sums{};
  for (std::int64_t i = 0; i < a.ld_scores; i += kWide) {
    const Floats weights = exponentials(load<Floats>(scores + i) - most);
    store(scores + i, weights);
    sums += weights;  // what is behind the last key adds less than 1e-36
  }
  return 1.0f / sum_of(sums);
}

// The weighted sum of values, two vectors of columns at a time, each read once.
template <std::int64_t kHeads>
void sums_of(const OneQuery& a, const float* weights, const float* inverse, const Bf16* v, Bf16* out) {
  for (std::int64_t i = 0; i < a.columns; i += 2 * kWide) {
    Floats first[kHeads] = {}, second[kHeads] = {};
    for (std::int64_t key = 0; key < a.keys; ++key) {
      const Bf16* row = v + key * a.columns + i;
      const Floats one = load_wide(row), other = load_wide(row + kWide);
      for (std::int64_t h = 0; h < kHeads; ++h) {
        const float weight = weights[h * a.ld_scores + key];
        first[h] += one * weight;
        second[h] += other * weight;
      }
    }
    for (std::int64_t h = 0; h < kHeads; ++h) {
      store_narrow(out + h * a.columns + i, first[h] * inverse[h]);
      store_narrow(out + h * a.columns + i + kWide, second[h] * inverse[h]);
    }
  }
}

template <std::int64_t kHeads>
void attend(const OneQuery& a, std::int64_t head, std::int64_t first) {
  float* scores = a.scores + first * a.ld_scores;
  scores_of<kHeads>(a, a.q + first * a.columns, a.k + head * a.k_head, scores);
  float inverse[kHeads];
  for (std::int64_t h = 0; h < kHeads; ++h) inverse[h] = weights_of(a, scores + h * a.ld_scores);
  sums_of<kHeads>(a, scores, inverse, a.v + head * a.v_head, a.out + first * a.columns);
}

void one_query(const OneQuery& a, std::int64_t begin, std::int64_t end) {
  const std::int64_t tasks_of_head = (a.group + a.chunk - 1) / a.chunk;
  for (std::int64_t task = begin; task < end; ++task) {
    const std::int64_t head = task / tasks_of_head, in_group = task % tasks_of_head * a.chunk;
    const std::int64_t count = a.group - in_group < a.chunk ? a.group - in_group : a.chunk;
    const std::int64_t first = head * a.group + in_group;
    if (count == 4) attend<4>(a, head, first);
    if (count == 3) attend<3>(a, head, first);
    if (count == 2) attend<2>(a, head, first);
    if (count == 1) attend<1>(a, head, first);
  }
}

constexpr AttentionLoops kLoops{softmax, gradient, one_query};

}  // namespace

const AttentionLoops& BEZEL_SIMD_ATTENTION_LOOPS() { return kLoops; }

}  // namespace bezel::kernels::simd
