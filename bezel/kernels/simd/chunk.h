#pragma once

#include <cmath>
#include <cstdint>

#include "bezel/kernels/simd/exponential.h"
#include "bezel/kernels/simd/row_kernels.h"
#include "bezel/kernels/simd/vectors.h"

namespace bezel::kernels::simd {
namespace {  // each instruction set that row_kernels.cpp is compiled for has its own

// One chunk of one head, in float32.
class Chunk {
 public:
  Chunk(const LocalAttention& a, float* scratch)
      : a_(a),
        width_(chunked_width(a)),
        q_(scratch),
        d_(q_ + a.chunk * width_),
        dq_(d_ + a.chunk * width_),
        k_(dq_ + a.chunk * width_),
        v_(k_ + a.context * width_),
        dk_(v_ + a.context * width_),
        dv_(dk_ + a.context * width_),
        relative_(dv_ + a.context * width_),
        d_relative_(relative_ + a.distances * width_),
        dk_all_(d_relative_ + a.distances * width_),
        dv_all_(dk_all_ + a.frames * width_),
        weights_(dv_all_ + a.frames * width_),
        bent_(weights_ + a.context),
        d_weights_(bent_ + a.context) {}

  void read_chunk(std::int64_t chunk, std::int64_t head) {
    first_ = chunk * a_.chunk;
    rows_ = a_.frames - first_ < a_.chunk ? a_.frames - first_ : a_.chunk;
    mask_ = a_.mask + chunk * a_.chunk * a_.context;
    read(a_.q, first_, rows_, head, q_);
    for (std::int64_t i = 0; i < rows_; ++i) {
#pragma omp simd
      for (std::int64_t c = 0; c < a_.columns; ++c) q_[i * width_ + c] *= a_.q_scale * a_.per_dim[c];
    }
    read(a_.k, first_ - a_.before, a_.context, head, k_);
#pragma omp simd
    for (std::int64_t i = 0; i < a_.context * width_; ++i) k_[i] *= a_.k_scale;
    read(a_.v, first_ - a_.before, a_.context, head, v_);
  }
  void load_distances(std::int64_t head) {
    for (std::int64_t i = 0; i < a_.distances; ++i)
      widen_row(a_.relative + (i * a_.heads + head) * a_.columns, relative_ + i * width_);
  }

  void attend(std::int64_t head) {
    for (std::int64_t i = 0; i < rows_; ++i) {
      weigh(i);
      float* sums = dq_;
      clear(sums);
      for (std::int64_t j = 0; j < a_.context; ++j) add(weights_[j], v_ + j * width_, sums);
      round_row(sums, 1.0f, a_.out + ((first_ + i) * a_.heads + head) * a_.columns);
    }
  }

  void start_head() {
    for (float* x = d_relative_; x < dv_all_ + a_.frames * width_; ++x) *x = 0.0f;
  }
  void add_gradients(std::int64_t head) {
    read(a_.d_out, first_, rows_, head, d_);
    for (float* x = dk_; x < dv_ + a_.context * width_; ++x) *x = 0.0f;
    for (std::int64_t i = 0; i < rows_; ++i) {
      weigh(i);
      add_gradients_of(i);
      Bf16* dq = a_.dq + ((first_ + i) * a_.heads + head) * a_.columns;
#pragma omp simd
      for (std::int64_t c = 0; c < a_.columns; ++c) dq[c] = narrow(dq_[c] * a_.q_scale * a_.per_dim[c]);
    }
    for (std::int64_t j = 0; j < a_.context; ++j) {
      const std::int64_t frame = first_ - a_.before + j;
      if (frame < 0 || frame >= a_.frames) continue;
      add(1.0f, dk_ + j * width_, dk_all_ + frame * width_);
      add(1.0f, dv_ + j * width_, dv_all_ + frame * width_);
    }
  }
  void end_head(std::int64_t head) {
    for (std::int64_t t = 0; t < a_.frames; ++t) {
      round_row(dk_all_ + t * width_, a_.k_scale, a_.dk + (t * a_.heads + head) * a_.columns);
      round_row(dv_all_ + t * width_, 1.0f, a_.dv + (t * a_.heads + head) * a_.columns);
    }
    for (std::int64_t i = 0; i < a_.distances; ++i)
      round_row(d_relative_ + i * width_, 1.0f, a_.d_relative + (i * a_.heads + head) * a_.columns);
  }

 private:
  void widen_row(const Bf16* from, float* to) const {
#pragma omp simd
    for (std::int64_t c = 0; c < a_.columns; ++c) to[c] = widen(from[c]);
  }
  void round_row(const float* from, float by, Bf16* to) const {
#pragma omp simd
    for (std::int64_t c = 0; c < a_.columns; ++c) to[c] = narrow(from[c] * by);
  }
  void clear(float* to) const {
    for (std::int64_t c = 0; c < width_; c += kWide) store(to + c, Floats{});
  }
  void add(float by, const float* x, float* sums) const {
    if (by > -kNothing && by < kNothing) return;
    for (std::int64_t c = 0; c < width_; c += kWide) store(sums + c, load<Floats>(sums + c) + by * load<Floats>(x + c));
  }
  // Products of x with `kCount` rows.
  template <std::int64_t kCount>
  void products_with(const float* x, const float* rows, float* out) const {
    Floats sums[kCount];
    for (std::int64_t r = 0; r < kCount; ++r) sums[r] = Floats{};
    for (std::int64_t c = 0; c < width_; c += kWide) {
      const Floats left = load<Floats>(x + c);
      for (std::int64_t r = 0; r < kCount; ++r) sums[r] += left * load<Floats>(rows + r * width_ + c);
    }
    for (std::int64_t r = 0; r < kCount; ++r) out[r] = sum_of(sums[r]);
  }
  void products(const float* x, const float* rows, std::int64_t count, float* out) const {
    std::int64_t r = 0;
    for (; r + 4 <= count; r += 4) products_with<4>(x, rows + r * width_, out + r);
    for (; r < count; ++r) products_with<1>(x, rows + r * width_, out + r);
  }
  // Frames [first, first + count) of a head; zeros beyond both ends.
  void read(const Bf16* from, std::int64_t first, std::int64_t count, std::int64_t head, float* to) const {
    for (std::int64_t i = 0; i < count; ++i, to += width_) {
      if (first + i >= 0 && first + i < a_.frames)
        widen_row(from + ((first + i) * a_.heads + head) * a_.columns, to);
      else
        clear(to);
    }
  }
  bool has_distance(std::int64_t i, std::int64_t j) const { return j >= i && j - i < a_.distances; }

  // Weights of the context for frame i of the chunk; with a cap, `bent_` are the logits over it.
  void weigh(std::int64_t i) {
    const bool* mask = mask_ + i * a_.context;
    const float* q = q_ + i * width_;
    float most = -INFINITY, sum = 0.0f;
    products(q, k_, a_.context, weights_);
    // bent_ holds those by distance for now.
    const std::int64_t near = a_.distances < a_.context - i ? a_.distances : a_.context - i;
    products(q, relative_, near, bent_);
    for (std::int64_t distance = 0; distance < near; ++distance) weights_[i + distance] += bent_[distance];
    if (a_.cap != 0.0f) {
#pragma omp simd
      for (std::int64_t j = 0; j < a_.context; ++j) {
        bent_[j] = 1.0f - 2.0f / (exponential(weights_[j] * (2.0f / a_.cap)) + 1.0f);  // tanh
        weights_[j] = bent_[j] * a_.cap;
      }
    }
    for (std::int64_t j = 0; j < a_.context; ++j) {
      if (!mask[j]) weights_[j] = a_.invalid;
      most = weights_[j] > most ? weights_[j] : most;
    }
#pragma omp simd reduction(+ : sum)
    for (std::int64_t j = 0; j < a_.context; ++j) {
      weights_[j] = exponential(weights_[j] - most);
      sum += weights_[j];
    }
    for (std::int64_t j = 0; j < a_.context; ++j) weights_[j] /= sum;
  }

  void add_gradients_of(std::int64_t i) {
    const bool* mask = mask_ + i * a_.context;
    const float *q = q_ + i * width_, *d = d_ + i * width_;
    float delta = 0.0f;
    products(d, v_, a_.context, d_weights_);
    for (std::int64_t j = 0; j < a_.context; ++j) {
      add(weights_[j], d, dv_ + j * width_);
      delta += weights_[j] * d_weights_[j];
    }
    clear(dq_);
    for (std::int64_t j = 0; j < a_.context; ++j) {
      if (!mask[j]) continue;
      float slope = weights_[j] * (d_weights_[j] - delta);
      if (a_.cap != 0.0f) slope *= 1.0f - bent_[j] * bent_[j];
      add(slope, k_ + j * width_, dq_);
      add(slope, q, dk_ + j * width_);
      if (!has_distance(i, j)) continue;
      add(slope, relative_ + (j - i) * width_, dq_);
      add(slope, q, d_relative_ + (j - i) * width_);
    }
  }

  // What is less adds nothing to a sum, such as weights of keys that may not be seen.
  static constexpr float kNothing = 1e-30f;

  const LocalAttention& a_;
  std::int64_t width_;                   // D rounded up to whole vectors; what is behind the D stays zero
  float *q_, *d_, *dq_;                  // [chunk, width]
  float *k_, *v_, *dk_, *dv_;            // [context, width]
  float *relative_, *d_relative_;        // [C, width]
  float *dk_all_, *dv_all_;              // [T, width]
  float *weights_, *bent_, *d_weights_;  // [context]
  std::int64_t first_ = 0, rows_ = 0;    // frames of the chunk
  const bool* mask_ = nullptr;
};

}  // namespace
}  // namespace bezel::kernels::simd
