#pragma once

#include <cmath>
#include <cstdint>

#include "bezel/kernels/simd/exponential.h"
#include "bezel/kernels/simd/loops.h"

namespace bezel::kernels::simd {
namespace {  // each instruction set that loops.cpp is compiled for has its own

// One chunk of one head, in float32.
class Chunk {
 public:
  Chunk(const ChunkedAttention& a, float* room)
      : a_(a),
        q_(room),
        d_(q_ + a.chunk * a.columns),
        dq_(d_ + a.chunk * a.columns),
        k_(dq_ + a.chunk * a.columns),
        v_(k_ + a.context * a.columns),
        dk_(v_ + a.context * a.columns),
        dv_(dk_ + a.context * a.columns),
        relative_(dv_ + a.context * a.columns),
        d_relative_(relative_ + a.distances * a.columns),
        dk_all_(d_relative_ + a.distances * a.columns),
        dv_all_(dk_all_ + a.frames * a.columns),
        weights_(dv_all_ + a.frames * a.columns),
        bent_(weights_ + a.context) {}

  void load(std::int64_t chunk, std::int64_t head) {
    first_ = chunk * a_.chunk;
    rows_ = a_.frames - first_ < a_.chunk ? a_.frames - first_ : a_.chunk;
    visible_ = a_.visible + chunk * a_.chunk * a_.context;
    read(a_.q, first_, rows_, head, q_);
    for (std::int64_t i = 0; i < rows_; ++i) {
#pragma omp simd
      for (std::int64_t c = 0; c < a_.columns; ++c) q_[i * a_.columns + c] *= a_.q_scale * a_.per_dim[c];
    }
    read(a_.k, first_ - a_.before, a_.context, head, k_);
#pragma omp simd
    for (std::int64_t i = 0; i < a_.context * a_.columns; ++i) k_[i] *= a_.k_scale;
    read(a_.v, first_ - a_.before, a_.context, head, v_);
  }
  void load_distances(std::int64_t head) {
    for (std::int64_t i = 0; i < a_.distances; ++i)
      widen_row(a_.relative + (i * a_.heads + head) * a_.columns, relative_ + i * a_.columns);
  }

  void attend(std::int64_t head) {
    for (std::int64_t i = 0; i < rows_; ++i) {
      weigh(i);
      float* sums = dq_;
      for (std::int64_t c = 0; c < a_.columns; ++c) sums[c] = 0.0f;
      for (std::int64_t j = 0; j < a_.context; ++j) add(weights_[j], v_ + j * a_.columns, sums);
      round_row(sums, 1.0f, a_.out + ((first_ + i) * a_.heads + head) * a_.columns);
    }
  }

  void start_head() {
    for (float* x = d_relative_; x < dv_all_ + a_.frames * a_.columns; ++x) *x = 0.0f;
  }
  void add_gradients(std::int64_t head) {
    read(a_.d_out, first_, rows_, head, d_);
    for (float* x = dk_; x < dv_ + a_.context * a_.columns; ++x) *x = 0.0f;
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
      add(1.0f, dk_ + j * a_.columns, dk_all_ + frame * a_.columns);
      add(1.0f, dv_ + j * a_.columns, dv_all_ + frame * a_.columns);
    }
  }
  void end_head(std::int64_t head) {
    for (std::int64_t t = 0; t < a_.frames; ++t) {
      round_row(dk_all_ + t * a_.columns, a_.k_scale, a_.dk + (t * a_.heads + head) * a_.columns);
      round_row(dv_all_ + t * a_.columns, 1.0f, a_.dv + (t * a_.heads + head) * a_.columns);
    }
    for (std::int64_t i = 0; i < a_.distances; ++i)
      round_row(d_relative_ + i * a_.columns, 1.0f, a_.d_relative + (i * a_.heads + head) * a_.columns);
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
  void add(float by, const float* x, float* sums) const {
#pragma omp simd
    for (std::int64_t c = 0; c < a_.columns; ++c) sums[c] += by * x[c];
  }
  float product(const float* x, const float* y) const {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t c = 0; c < a_.columns; ++c) sum += x[c] * y[c];
    return sum;
  }
  // Frames [first, first + count) of a head; zeros beyond both ends.
  void read(const Bf16* from, std::int64_t first, std::int64_t count, std::int64_t head, float* to) const {
    for (std::int64_t i = 0; i < count; ++i, to += a_.columns) {
      if (first + i >= 0 && first + i < a_.frames)
        widen_row(from + ((first + i) * a_.heads + head) * a_.columns, to);
      else
        for (std::int64_t c = 0; c < a_.columns; ++c) to[c] = 0.0f;
    }
  }
  bool has_distance(std::int64_t i, std::int64_t j) const { return j >= i && j - i < a_.distances; }

  // Weights of the context for frame i of the chunk; with a cap, `bent_` are the logits over it.
  void weigh(std::int64_t i) {
    const bool* visible = visible_ + i * a_.context;
    const float* q = q_ + i * a_.columns;
    float most = -INFINITY, sum = 0.0f;
    for (std::int64_t j = 0; j < a_.context; ++j) {
      weights_[j] = visible[j] ? product(q, k_ + j * a_.columns) : 0.0f;
      if (visible[j] && has_distance(i, j)) weights_[j] += product(q, relative_ + (j - i) * a_.columns);
    }
    if (a_.cap != 0.0f) {
#pragma omp simd
      for (std::int64_t j = 0; j < a_.context; ++j) {
        bent_[j] = 1.0f - 2.0f / (exponential(weights_[j] * (2.0f / a_.cap)) + 1.0f);  // tanh
        weights_[j] = bent_[j] * a_.cap;
      }
    }
    for (std::int64_t j = 0; j < a_.context; ++j) {
      if (!visible[j]) weights_[j] = a_.invalid;
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
    const bool* visible = visible_ + i * a_.context;
    const float *q = q_ + i * a_.columns, *d = d_ + i * a_.columns;
    float delta = 0.0f;
    for (std::int64_t j = 0; j < a_.context; ++j) {
      add(weights_[j], d, dv_ + j * a_.columns);
      delta += weights_[j] * product(d, v_ + j * a_.columns);
    }
    for (std::int64_t c = 0; c < a_.columns; ++c) dq_[c] = 0.0f;
    for (std::int64_t j = 0; j < a_.context; ++j) {
      if (!visible[j]) continue;
      float slope = weights_[j] * (product(d, v_ + j * a_.columns) - delta);
      if (a_.cap != 0.0f) slope *= 1.0f - bent_[j] * bent_[j];
      add(slope, k_ + j * a_.columns, dq_);
      add(slope, q, dk_ + j * a_.columns);
      if (!has_distance(i, j)) continue;
      add(slope, relative_ + (j - i) * a_.columns, dq_);
      add(slope, q, d_relative_ + (j - i) * a_.columns);
    }
  }

  const ChunkedAttention& a_;
  float *q_, *d_, *dq_;                // [chunk, D]
  float *k_, *v_, *dk_, *dv_;          // [context, D]
  float *relative_, *d_relative_;      // [C, D]
  float *dk_all_, *dv_all_;            // [T, D]
  float *weights_, *bent_;             // [context]
  std::int64_t first_ = 0, rows_ = 0;  // frames of the chunk
  const bool* visible_ = nullptr;
};

}  // namespace
}  // namespace bezel::kernels::simd
