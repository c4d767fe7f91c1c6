// Compiled once for each instruction set, with BEZEL_SIMD_ROW_KERNELS naming what it defines.
#include "bezel/kernels/simd/row_kernels.h"

#include <cmath>
#include <cstring>

#include "bezel/kernels/simd/bf16.h"
#include "bezel/kernels/simd/chunk.h"
#include "bezel/kernels/simd/exponential.h"
#include "bezel/kernels/simd/product.h"

namespace bezel::kernels::simd {
namespace {

// gelu_tanh(g) = g * sigmoid(2 z) with z = sqrt(2 / pi) (g + 0.044715 g³).
constexpr float kTwiceRoot = 1.5957691216057308f;
constexpr float kCubic = 0.044715f;

inline float gelu_gate(float g) { return 1.0f / (1.0f + exponential(-kTwiceRoot * (g + kCubic * g * g * g))); }

template <bool kWeighted, bool kAdded>
void norm_row(const Bf16* x, const float* w, const Bf16* residual, float inverse, std::int64_t columns, Bf16* y) {
#pragma omp simd
  for (std::int64_t i = 0; i < columns; ++i) {
    const float normed = widen(x[i]) * inverse * (kWeighted ? w[i] : 1.0f);
    y[i] = narrow(kAdded ? widen(residual[i]) + normed : normed);
  }
}

void rms_norm(const RmsNorm& a, std::int64_t begin, std::int64_t end) {
  const bool added = a.residual != nullptr;
  const auto row = a.weight != nullptr ? (added ? norm_row<true, true> : norm_row<true, false>)
                                       : (added ? norm_row<false, true> : norm_row<false, false>);
  for (std::int64_t n = begin; n < end; ++n) {
    const Bf16* x = a.x + n * a.columns;
    float squares = 0.0f;
#pragma omp simd reduction(+ : squares)
    for (std::int64_t i = 0; i < a.columns; ++i) squares += widen(x[i]) * widen(x[i]);
    a.inverse[n] = 1.0f / std::sqrt(squares / static_cast<float>(a.columns) + static_cast<float>(a.eps));
    row(x, a.weight, added ? a.residual + n * a.columns : nullptr, a.inverse[n], a.columns, a.y + n * a.columns);
  }
}

template <bool kWeighted>
void norm_gradient(const Bf16* x, const Bf16* dy, const float* w, float inverse, std::int64_t columns, Bf16* dx) {
  float along = 0.0f;
#pragma omp simd reduction(+ : along)
  for (std::int64_t i = 0; i < columns; ++i) along += widen(dy[i]) * (kWeighted ? w[i] : 1.0f) * widen(x[i]);
  along *= inverse * inverse / static_cast<float>(columns);
#pragma omp simd
  for (std::int64_t i = 0; i < columns; ++i)
    dx[i] = narrow((widen(dy[i]) * (kWeighted ? w[i] : 1.0f) - widen(x[i]) * along) * inverse);
}

void rms_norm_backward(const RmsNorm& a, std::int64_t begin, std::int64_t end) {
  for (std::int64_t n = begin; n < end; ++n) {
    const std::int64_t at = n * a.columns;
    if (a.weight != nullptr)
      norm_gradient<true>(a.x + at, a.y + at, a.weight, a.inverse[n], a.columns, a.dx + at);
    else
      norm_gradient<false>(a.x + at, a.y + at, nullptr, a.inverse[n], a.columns, a.dx + at);
  }
}

void geglu(const Geglu& a, std::int64_t begin, std::int64_t end) {
#pragma omp simd
  for (std::int64_t i = begin; i < end; ++i) {
    const float g = widen(a.gate[i]);
    a.y[i] = narrow(g * gelu_gate(g) * widen(a.up[i]));
  }
}

void geglu_backward(const Geglu& a, std::int64_t begin, std::int64_t end) {
#pragma omp simd
  for (std::int64_t i = begin; i < end; ++i) {
    const float g = widen(a.gate[i]), dy = widen(a.dy[i]);
    const float s = gelu_gate(g);
    const float slope = s + g * s * (1.0f - s) * kTwiceRoot * (1.0f + 3.0f * kCubic * g * g);
    a.dgate[i] = narrow(dy * widen(a.up[i]) * slope);
    a.dup[i] = narrow(dy * g * s);
  }
}

void silu(const Silu& a, std::int64_t begin, std::int64_t end) {
#pragma omp simd
  for (std::int64_t i = begin; i < end; ++i) {
    const float x = widen(a.x[i]);
    a.y[i] = narrow(x / (1.0f + exponential(-x)));
  }
}

void silu_backward(const Silu& a, std::int64_t begin, std::int64_t end) {
#pragma omp simd
  for (std::int64_t i = begin; i < end; ++i) {
    const float x = widen(a.x[i]);
    const float s = 1.0f / (1.0f + exponential(-x));
    a.y[i] = narrow(widen(a.dy[i]) * s * (1.0f + x * (1.0f - s)));
  }
}

// Row t of the gated input; rows are in `ring` at their number modulo the width.
void gate_row(const GatedConv& a, std::int64_t t, float* ring) {
  const Bf16 *value = a.x + t * 2 * a.columns, *gate = value + a.columns;
  float* to = ring + t % a.width * a.columns;
#pragma omp simd
  for (std::int64_t c = 0; c < a.columns; ++c) to[c] = widen(value[c]) / (1.0f + exponential(-widen(gate[c])));
}

// sums += weight of a tap * row
void add_tap(const GatedConv& a, std::int64_t tap, const float* row, float* sums) {
  const float* weight = a.weight + tap * a.columns;
#pragma omp simd
  for (std::int64_t c = 0; c < a.columns; ++c) sums[c] += weight[c] * row[c];
}

void gated_conv(const GatedConv& a, std::int64_t begin, std::int64_t end, float* scratch) {
  float* sums = scratch + a.width * a.columns;
  for (std::int64_t t = begin - a.width + 1; t < end; ++t) {
    if (t >= 0) gate_row(a, t, scratch);
    if (t < begin) continue;
    for (std::int64_t c = 0; c < a.columns; ++c) sums[c] = 0.0f;
    for (std::int64_t tap = 0; tap < a.width; ++tap)
      if (const std::int64_t row = t - a.width + 1 + tap; row >= 0)
        add_tap(a, tap, scratch + row % a.width * a.columns, sums);
    Bf16* y = a.y + t * a.columns;
#pragma omp simd
    for (std::int64_t c = 0; c < a.columns; ++c) y[c] = narrow(sums[c]);
  }
}

// A row meets the taps of those after it.
void gated_conv_backward(const GatedConv& a, std::int64_t begin, std::int64_t end, float* scratch) {
  float *sums = scratch, *dy = scratch + a.columns;
  for (std::int64_t t = begin; t < end; ++t) {
    for (std::int64_t c = 0; c < a.columns; ++c) sums[c] = 0.0f;
    for (std::int64_t tap = 0; tap < a.width; ++tap) {
      const std::int64_t row = t + a.width - 1 - tap;
      if (row >= a.rows) continue;
#pragma omp simd
      for (std::int64_t c = 0; c < a.columns; ++c) dy[c] = widen(a.dy[row * a.columns + c]);
      add_tap(a, tap, dy, sums);
    }
    const Bf16 *value = a.x + t * 2 * a.columns, *gate = value + a.columns;
    Bf16 *d_value = a.y + t * 2 * a.columns, *d_gate = d_value + a.columns;
#pragma omp simd
    for (std::int64_t c = 0; c < a.columns; ++c) {
      const float open = 1.0f / (1.0f + exponential(-widen(gate[c])));
      d_value[c] = narrow(sums[c] * open);
      d_gate[c] = narrow(sums[c] * widen(value[c]) * open * (1.0f - open));
    }
  }
}

void apply_rope(const Rope& a, std::int64_t begin, std::int64_t end) {
  const std::int64_t half = a.columns / 2;
  for (std::int64_t n = begin; n < end; ++n)
    for (std::int64_t head = 0; head < a.heads; ++head) {
      const Bf16* x = a.x + (n * a.heads + head) * a.columns;
      Bf16* y = a.y + (n * a.heads + head) * a.columns;
      const std::int64_t turn = ((n % a.period) * a.groups + head % a.groups) * a.columns;
      const Bf16 *cos = a.cos + turn, *sin = a.sin + turn;
#pragma omp simd
      for (std::int64_t i = 0; i < half; ++i) {
        const float c = widen(cos[i]), s = widen(sin[i]) * a.direction;
        const float left = widen(x[i]), right = widen(x[i + half]);
        y[i] = narrow(left * c - right * s);
        y[i + half] = narrow(right * c + left * s);
      }
    }
}

template <bool kCapped>
inline float capped(float z, float cap) {
  return kCapped ? cap - 2.0f * cap / (exponential(z * (2.0f / cap)) + 1.0f) : z;  // cap tanh(z / cap)
}

// `weights` [columns]: scratch of the weight's gradient; null where it is not needed.
template <bool kCapped, bool kGradient>
void cross_entropy_row(Bf16* z, std::int64_t label, std::int64_t columns, float cap, double* loss, float* weights) {
  float most = -INFINITY;
#pragma omp simd reduction(max : most)
  for (std::int64_t i = 0; i < columns; ++i) most = widen(z[i]) > most ? widen(z[i]) : most;
  most = capped<kCapped>(most, cap);
  const float inverse_cap = kCapped ? 1.0f / cap : 0.0f;
  // In blocks, so that float32 sums stay short.
  constexpr std::int64_t kBlock = 4096;
  double total = 0.0;
  for (std::int64_t first = 0; first < columns; first += kBlock) {
    const std::int64_t count = columns - first < kBlock ? columns - first : kBlock;
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t i = 0; i < count; ++i) {
      const float value = capped<kCapped>(widen(z[first + i]), cap), t = value * inverse_cap;
      const float e = exponential(value - most);
      if (kGradient) weights[first + i] = e * (1.0f - t * t);
      sum += e;
    }
    total += static_cast<double>(sum);
  }
  const float log_sum = most + static_cast<float>(std::log(total));
  const float at_label = capped<kCapped>(widen(z[label]), cap);
  *loss = static_cast<double>(log_sum) - static_cast<double>(at_label);
  if (!kGradient) return;
  const auto inverse_total = static_cast<float>(1.0 / total);
#pragma omp simd
  for (std::int64_t i = 0; i < columns; ++i) z[i] = narrow(weights[i] * inverse_total);
  const float t = at_label * inverse_cap;
  z[label] = narrow((exponential(at_label - log_sum) - 1.0f) * (1.0f - t * t));
}

template <bool kCapped, bool kGradient>
void cross_entropy_rows(const CrossEntropy& a, std::int64_t begin, std::int64_t end) {
  // No std::vector: a template of the library, compiled here, could become that of other instruction sets as well.
  float* weights = kGradient ? new float[static_cast<std::size_t>(a.columns)] : nullptr;
  for (std::int64_t n = begin; n < end; ++n)
    cross_entropy_row<kCapped, kGradient>(a.logits + n * a.columns, a.labels[n], a.columns, a.cap, a.loss + n, weights);
  delete[] weights;
}

void cross_entropy(const CrossEntropy& a, std::int64_t begin, std::int64_t end) {
  if (a.gradient)
    a.cap != 0.0f ? cross_entropy_rows<true, true>(a, begin, end) : cross_entropy_rows<false, true>(a, begin, end);
  else
    a.cap != 0.0f ? cross_entropy_rows<true, false>(a, begin, end) : cross_entropy_rows<false, false>(a, begin, end);
}

// Two rows of bfloat16 as pairs.
void store_pairs(const Bf16* first, const Bf16* second, std::int64_t columns, Bf16* pairs) {
#pragma omp simd
  for (std::int64_t i = 0; i < columns; ++i) {
    const std::uint32_t both =
        static_cast<std::uint32_t>(first[i].bits) | (static_cast<std::uint32_t>(second[i].bits) << 16);
    std::memcpy(pairs + 2 * i, &both, sizeof both);
  }
}

void round(const Rounded& a, std::int64_t begin, std::int64_t end) {
#pragma omp simd
  for (std::int64_t i = begin; i < end; ++i) a.to[i] = narrow(a.from[i]);
}

void row_dots(const RowDots& a, std::int64_t begin, std::int64_t end) {
  for (std::int64_t n = begin; n < end; ++n) {
    const Bf16 *x = a.x + n * a.ld_x, *y = a.y + n * a.ld_y;
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t i = 0; i < a.columns; ++i) sum += widen(x[i]) * widen(y[i]);
    a.dots[n] = sum;
  }
}

void ranged_softmax(const RangedSoftmax& a, std::int64_t begin, std::int64_t end) {
  for (std::int64_t n = begin; n < end; ++n) {
    float* z = a.scores + n * a.columns;
    Bf16* weights = a.weights + n * a.columns;
    a.log_sum[n] = 0.0f;
    for (std::int64_t i = 0; i < a.columns; ++i) weights[i] = Bf16{0};
    float most = -INFINITY, sum = 0.0f;
    bool sees_any = false;
    for (std::int64_t r = 0; r < a.ranges; ++r) {
      const std::int64_t first = a.first[r * a.ld_ranges + n], until = a.end[r * a.ld_ranges + n];
      sees_any = sees_any || first < until;
#pragma omp simd reduction(max : most)
      for (std::int64_t i = first; i < until; ++i) most = z[i] > most ? z[i] : most;
    }
    if (!sees_any) continue;
    for (std::int64_t r = 0; r < a.ranges; ++r) {
      const std::int64_t first = a.first[r * a.ld_ranges + n], until = a.end[r * a.ld_ranges + n];
#pragma omp simd reduction(+ : sum)
      for (std::int64_t i = first; i < until; ++i) {
        z[i] = exponential(z[i] - most);
        sum += z[i];
      }
    }
    const float inverse = 1.0f / sum;
    for (std::int64_t r = 0; r < a.ranges; ++r) {
      const std::int64_t first = a.first[r * a.ld_ranges + n], until = a.end[r * a.ld_ranges + n];
#pragma omp simd
      for (std::int64_t i = first; i < until; ++i) weights[i] = narrow(z[i] * inverse);
    }
    a.log_sum[n] = most + std::log(sum);
  }
}

// Adds 1 where a run behind the first of a column holds `row`.
void mark_more_ranges(const RangedGradient& a, std::int64_t row, float* seen) {
  for (std::int64_t i = 0; i < a.columns; ++i) seen[i] = 0.0f;
  for (std::int64_t r = 1; r < a.ranges; ++r) {
    const std::int64_t *first = a.first + r * a.ld_ranges, *end = a.end + r * a.ld_ranges;
#pragma omp simd
    for (std::int64_t i = 0; i < a.columns; ++i) seen[i] += (first[i] <= row) & (row < end[i]) ? 1.0f : 0.0f;
  }
}

void ranged_gradient(const RangedGradient& a, std::int64_t begin, std::int64_t end) {
  float more[kPackedWidth] = {};
  for (std::int64_t pair = begin; pair < end; ++pair) {
    for (std::int64_t n = 2 * pair; n < 2 * pair + 2; ++n) {
      const float *z = a.scores + n * a.columns, *dw = a.d_weights + n * a.columns;
      Bf16 *weights = a.weights + n * a.columns, *dz = a.d_scores + n * a.columns;
      const std::int64_t row = n + a.shift;
      if (a.ranges > 1) mark_more_ranges(a, row, more);
#pragma omp simd
      for (std::int64_t i = 0; i < a.columns; ++i) {
        const float seen = more[i] + ((a.first[i] <= row) & (row < a.end[i]) ? 1.0f : 0.0f);
        const float weight = exponential(z[i] - a.log_sum[i]) * seen;
        weights[i] = narrow(weight);
        dz[i] = narrow(weight * (dw[i] - a.delta[i]));
      }
    }
    const Bf16* first = a.d_scores + 2 * pair * a.columns;
    store_pairs(first, first + a.columns, a.columns, a.d_pairs + 2 * pair * a.columns);
  }
}

void local_attention(const LocalAttention& a, std::int64_t begin, std::int64_t end, float* scratch) {
  Chunk chunk(a, scratch);
  for (std::int64_t i = begin; i < end; ++i) {
    chunk.load_distances(i % a.heads);
    chunk.read_chunk(i / a.heads, i % a.heads);
    chunk.attend(i % a.heads);
  }
}

void local_attention_backward(const LocalAttention& a, std::int64_t begin, std::int64_t end, float* scratch) {
  Chunk chunk(a, scratch);
  for (std::int64_t head = begin; head < end; ++head) {
    chunk.load_distances(head);
    chunk.start_head();
    for (std::int64_t i = 0; i * a.chunk < a.frames; ++i) {
      chunk.read_chunk(i, head);
      chunk.add_gradients(head);
    }
    chunk.end_head(head);
  }
}

void keep_mask(const KeepMask& a, std::int64_t begin, std::int64_t end) {
  for (std::int64_t n = begin; n < end; ++n) {
    const auto low = static_cast<std::uint32_t>(a.rows[n]), high = static_cast<std::uint32_t>(a.rows[n] >> 32);
    bool* keep = a.keep + n * a.columns;
#pragma omp simd
    for (std::int64_t c = 0; c < a.columns; ++c) {
      std::uint32_t x = static_cast<std::uint32_t>(c) * kRandomStride + low;
      x = (x ^ x >> 16) * kRandomFactors[0];
      x = ((x ^ x >> 13) + high) * kRandomFactors[1];
      keep[c] = (x ^ x >> 16) >= a.least;
    }
  }
}

constexpr RowKernels kRowKernels{rms_norm,   rms_norm_backward, geglu,           geglu_backward,
                                 silu,       silu_backward,     gated_conv,      gated_conv_backward,
                                 apply_rope, cross_entropy,     ranged_softmax,  round,
                                 row_dots,   ranged_gradient,   local_attention, local_attention_backward,
                                 keep_mask};

}  // namespace

const RowKernels& BEZEL_SIMD_ROW_KERNELS() { return kRowKernels; }

}  // namespace bezel::kernels::simd
