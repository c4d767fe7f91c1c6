#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "bezel/kernels/simd/bf16.h"

// Vectors of float32 as wide as an instruction set has them, and how bfloat16 gets into and out of them. Where GCC's
// own operators on vectors are as good, no intrinsic is used; everything is static, as each instruction set has its
// own.

namespace bezel::kernels::simd {

/// float32 values of a vector. Without AVX two registers make one.
#if defined(__AVX512F__)
static constexpr std::int64_t kWide = 16;
using Bits = std::uint16_t;
#else
static constexpr std::int64_t kWide = 8;
using Bits = std::uint8_t;
#endif

using Floats = float __attribute__((vector_size(4 * kWide), aligned(4)));
using Words = std::uint32_t __attribute__((vector_size(4 * kWide), aligned(4)));
using HalfWords = std::uint16_t __attribute__((vector_size(2 * kWide), aligned(2)));

template <typename Value>
static inline Value load(const void* from) {
  Value value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <typename Value>
static inline void store(void* to, const Value& value) {
  std::memcpy(to, &value, sizeof value);
}

static inline Floats load_wide(const Bf16* from) {
  return reinterpret_cast<Floats>(__builtin_convertvector(load<HalfWords>(from), Words) << 16);
}

/// To the nearest, ties to even; NaN stays NaN. The processor's own conversion takes what is too small for a normal
/// number for zero.
static inline HalfWords narrow_bits(Floats value) {
#if defined(__AVX512BF16__)
  return reinterpret_cast<HalfWords>(_mm512_cvtneps_pbh(reinterpret_cast<__m512>(value)));
#else
  const Words bits = reinterpret_cast<Words>(value);
  const Words rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return __builtin_convertvector(value == value ? rounded : Words{} + 0x7fc0u, HalfWords);
#endif
}

/// Values of two rows in pairs, the first row's lower.
static inline Words pairs_of(HalfWords first, HalfWords second) {
  return __builtin_convertvector(first, Words) | (__builtin_convertvector(second, Words) << 16);
}

static inline void store_narrow(Bf16* to, Floats value) { store(to, narrow_bits(value)); }

static inline Floats rounded(Floats value) {
  return reinterpret_cast<Floats>(__builtin_convertvector(narrow_bits(value), Words) << 16);
}

/// Halves onto halves: a chain of single additions would take as long as what is summed.
static inline float sum_of(Floats value) {
#if defined(__AVX512F__)
  const auto eight = __builtin_shufflevector(value, value, 0, 1, 2, 3, 4, 5, 6, 7) +
                     __builtin_shufflevector(value, value, 8, 9, 10, 11, 12, 13, 14, 15);
#else
  const Floats eight = value;
#endif
  const auto four =
      __builtin_shufflevector(eight, eight, 0, 1, 2, 3) + __builtin_shufflevector(eight, eight, 4, 5, 6, 7);
  const auto two = __builtin_shufflevector(four, four, 0, 1) + __builtin_shufflevector(four, four, 2, 3);
  return two[0] + two[1];
}

/// One bit for each value, the first one lowest: whether low <= value <= high.
static inline Bits bits_within(Floats value, Floats low, Floats high) {
#if defined(__AVX512F__)
  const auto x = reinterpret_cast<__m512>(value);
  return static_cast<Bits>(_mm512_cmp_ps_mask(x, reinterpret_cast<__m512>(low), _CMP_GE_OQ) &
                           _mm512_cmp_ps_mask(x, reinterpret_cast<__m512>(high), _CMP_LE_OQ));
#elif defined(__AVX2__)
  return static_cast<Bits>(_mm256_movemask_ps(reinterpret_cast<__m256>((value >= low) & (value <= high))));
#else
  std::uint32_t bits = 0;
  for (std::int64_t i = 0; i < kWide; ++i)
    bits |= static_cast<std::uint32_t>((value[i] >= low[i]) & (value[i] <= high[i])) << i;
  return static_cast<Bits>(bits);
#endif
}

/// 32 elements where their bits are set, else 0.
static inline void keep_where(std::uint32_t bits, const Bf16* from, Bf16* to) {
#if defined(__AVX512BW__)
  store(to, _mm512_maskz_mov_epi16(bits, load<__m512i>(from)));
#else
#pragma omp simd
  for (std::int32_t i = 0; i < 32; ++i)
    to[i].bits = static_cast<std::uint16_t>(from[i].bits & -static_cast<std::int32_t>((bits >> i) & 1u));
#endif
}

#if defined(__AVX512BF16__)
/// Pairs of bfloat16 values as their products take them.
using PairFactor = Words;
static inline PairFactor pair_factor(Words pairs) { return pairs; }

/// Each lane: sum + first · first + second · second.
static inline void add_pair_products(Floats& sum, PairFactor a, PairFactor b) {
  sum = reinterpret_cast<Floats>(
      _mm512_dpbf16_ps(reinterpret_cast<__m512>(sum), reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b)));
}
#else
// By the width, so that no two instruction sets define one type differently.
template <std::int64_t kLanesOfEach>
struct SplitPairs {
  Floats first, second;
};
using PairFactor = SplitPairs<kWide>;
static inline PairFactor pair_factor(Words pairs) {
  return {reinterpret_cast<Floats>(pairs << 16), reinterpret_cast<Floats>(pairs & 0xffff0000u)};
}

static inline void add_pair_products(Floats& sum, const PairFactor& a, const PairFactor& b) {
  sum += a.first * b.first;
  sum += a.second * b.second;
}
#endif

}  // namespace bezel::kernels::simd
