// Compiled once for each instruction set, with BEZEL_SIMD_WEIGHT_KERNELS naming what it defines.
#include "bezel/kernels/simd/weight_kernels.h"

#include <cmath>

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

#include "bezel/kernels/simd/lanes.h"

namespace bezel::kernels::simd {
namespace {

using Floats = float __attribute__((vector_size(4 * kLanes)));
using Words = std::uint32_t __attribute__((vector_size(4 * kLanes)));
constexpr std::int64_t kBlock = 64;  // elements of a row of 4-bit codes that share a scale

template <typename Vector>
inline Vector load(const void* from) {
  Vector vector;
  std::memcpy(&vector, from, sizeof vector);
  return vector;
}

// Halves onto halves: a chain of single additions would take as long as a row's products.
inline float sum(Floats vector) {
#if defined(__AVX512F__)
  // In registers, which the loop below leaves.
  const auto eight = __builtin_shufflevector(vector, vector, 0, 1, 2, 3, 4, 5, 6, 7) +
                     __builtin_shufflevector(vector, vector, 8, 9, 10, 11, 12, 13, 14, 15);
  const auto four =
      __builtin_shufflevector(eight, eight, 0, 1, 2, 3) + __builtin_shufflevector(eight, eight, 4, 5, 6, 7);
  const auto two = __builtin_shufflevector(four, four, 0, 1) + __builtin_shufflevector(four, four, 2, 3);
  return two[0] + two[1];
#else
  float parts[kLanes];
  std::memcpy(parts, &vector, sizeof parts);
  for (std::int64_t half = kLanes / 2; half > 0; half /= 2)
    for (std::int64_t i = 0; i < half; ++i) parts[i] += parts[i + half];
  return parts[0];
#endif
}

// Asks for what lies `bytes` ahead, in rows that follow as a rule: loads of half a line and less are not foreseen.
template <typename T>
inline void prefetch(const T* from, std::int64_t bytes) {
  __builtin_prefetch(reinterpret_cast<const char*>(from) + bytes);
}

using Bytes = std::uint8_t __attribute__((vector_size(16)));
constexpr Bytes kLowerHalves = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23};
constexpr Bytes kUpperHalves = {8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};

// Both bytes of a block's 16 values, each as a table that one shuffle looks 16 codes up in.
struct ByteTables {
  Bytes low, high;
};

inline ByteTables byte_tables(const float* table, float scale) {
  std::uint8_t low[16], high[16];
#pragma omp simd
  for (int i = 0; i < 16; ++i) {
    const std::uint16_t bits = narrow(table[i] * scale).bits;
    low[i] = static_cast<std::uint8_t>(bits);
    high[i] = static_cast<std::uint8_t>(bits >> 8);
  }
  ByteTables bytes;
  std::memcpy(&bytes.low, low, 16);
  std::memcpy(&bytes.high, high, 16);
  return bytes;
}

inline void look_up(const ByteTables& tables, Bytes codes, Bf16* out) {
  const Bytes low = __builtin_shuffle(tables.low, codes), high = __builtin_shuffle(tables.high, codes);
  const Bytes first = __builtin_shuffle(low, high, kLowerHalves), second = __builtin_shuffle(low, high, kUpperHalves);
  std::memcpy(out, &first, 16);
  std::memcpy(out + 8, &second, 16);
}

#if defined(__AVX512BW__)
using HalfWords = std::uint16_t __attribute__((vector_size(32)));
using PairBytes = std::uint8_t __attribute__((vector_size(32)));
using Pairs = std::uint16_t __attribute__((vector_size(64)));

// The 16 values of a block as floats, rounded as bfloat16 values would be.
inline Floats block_values(Floats table, float scale) {
  const Floats exact = table * scale;
  const Words bits = reinterpret_cast<Words>(exact);
  return reinterpret_cast<Floats>((bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u);
}

constexpr Pairs kTwice = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
                          0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
constexpr Pairs kFirst = {0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
                          8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
constexpr Pairs kSecond = {16, 48, 17, 49, 18, 50, 19, 51, 20, 52, 21, 53, 22, 54, 23, 55,
                           24, 56, 25, 57, 26, 58, 27, 59, 28, 60, 29, 61, 30, 62, 31, 63};

// 64 codes: each lane holds a byte of two, and an instruction looks 32 lanes up by their lowest five bits, in a table
// that holds the values twice, so that the fifth bit, which is the other code's, does not matter.
inline void look_up_wide(Pairs values, const std::uint8_t* packed, Bf16* out) {
  const Pairs codes = __builtin_convertvector(load<PairBytes>(packed), Pairs);
  const Pairs earlier = __builtin_shuffle(values, codes >> 4), later = __builtin_shuffle(values, codes);
  const Pairs first = __builtin_shuffle(earlier, later, kFirst), second = __builtin_shuffle(earlier, later, kSecond);
  std::memcpy(out, &first, sizeof first);
  std::memcpy(out + kBlock / 2, &second, sizeof second);
}

void four_bit_wide(const FourBit& a, std::int64_t begin, std::int64_t end) {
  const Floats table = load<Floats>(a.table);
  for (std::int64_t b = begin; b < end; ++b) {
    const Words bits = reinterpret_cast<Words>(block_values(table, a.scales[b]));
    const HalfWords once = __builtin_convertvector(bits >> 16, HalfWords);
    Pairs values{};
    std::memcpy(&values, &once, sizeof once);
    values = __builtin_shuffle(values, kTwice);
    for (std::int64_t i = b * a.block; i < (b + 1) * a.block; i += kBlock)
      look_up_wide(values, a.packed + i / 2, a.out + i);
  }
}
#endif

void four_bit(const FourBit& a, std::int64_t begin, std::int64_t end) {
#if defined(__AVX512BW__)
  if (a.block % kBlock == 0) return four_bit_wide(a, begin, end);
#endif
  for (std::int64_t b = begin; b < end; ++b) {
    const ByteTables tables = byte_tables(a.table, a.scales[b]);
    for (std::int64_t i = b * a.block; i < (b + 1) * a.block; i += 32) {
      Bytes packed;
      std::memcpy(&packed, a.packed + i / 2, 16);
      const Bytes earlier = packed >> 4, later = packed & 15;
      look_up(tables, __builtin_shuffle(earlier, later, kLowerHalves), a.out + i);
      look_up(tables, __builtin_shuffle(earlier, later, kUpperHalves), a.out + i + 16);
    }
  }
}

#if defined(__AVX512BF16__)
// The 16 values of a block, twice.
inline Pairs values_twice(__m512 table, float scale) {
  const __m512 scaled = table * (__m512{} + scale);
  return reinterpret_cast<Pairs>(_mm512_cvtne2ps_pbh(scaled, scaled));
}

void four_bit_window(const FourBitWindow& a, std::int64_t begin, std::int64_t end) {
  const auto table = reinterpret_cast<__m512>(load<Floats>(a.table));
  for (std::int64_t row = begin; row < end; ++row) {
    const std::uint8_t* packed = a.packed + row * (a.columns / 2);
    const float* scales = a.scales + row * (a.columns / kBlock);
    for (std::int64_t i = 0; i < a.width; i += kBlock)
      look_up_wide(values_twice(table, scales[i / kBlock]), packed + i / 2, a.out + row * a.ld_out + i);
  }
}
#else
void four_bit_window(const FourBitWindow& a, std::int64_t begin, std::int64_t end) {
  for (std::int64_t row = begin; row < end; ++row)
    four_bit({a.packed + row * (a.columns / 2), a.table, a.scales + row * (a.columns / kBlock), kBlock,
              a.out + row * a.ld_out},
             0, a.width / kBlock);
}
#endif

// The largest magnitude, NaN if any element is.
inline float block_scale(const float* x, std::int64_t count) {
  float most = 0.0f;
  int strange = 0;
#pragma omp simd reduction(max : most) reduction(| : strange)
  for (std::int64_t i = 0; i < count; ++i) {
    const float size = std::fabs(x[i]);
    most = size > most ? size : most;
    strange |= size != size;
  }
  return strange != 0 ? NAN : most;
}

// Counts the bounds below each of up to kBlock values over their scale.
inline void find_codes(const ToFourBit& a, const float* x, std::int64_t count, float inverse, std::uint8_t* codes) {
  std::int32_t found[kBlock];
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) {
    const float scaled = x[i] * inverse;
    const float above = scaled < -1.0f ? -1.0f : scaled;
    const float value = above > 1.0f ? 1.0f : above;
    std::int32_t below = 0;
#pragma GCC unroll 15
    for (int j = 0; j < 15; ++j) below += value > a.bounds[j] ? 1 : 0;
    found[i] = below;
  }
  for (std::int64_t i = 0; i < count; ++i) codes[i] = a.order[found[i]];
}

void to_four_bit(const ToFourBit& a, std::int64_t begin, std::int64_t end) {
  std::uint8_t codes[kBlock];
  for (std::int64_t b = begin; b < end; ++b) {
    const float* x = a.x + b * a.block;
    a.scales[b] = block_scale(x, a.block);
    const float inverse = 1.0f / (a.scales[b] < a.smallest ? a.smallest : a.scales[b]);
    for (std::int64_t first = 0; first < a.block; first += kBlock) {
      const std::int64_t count = a.block - first < kBlock ? a.block - first : kBlock;
      find_codes(a, x + first, count, inverse, codes);
      std::uint8_t* packed = a.packed + (b * a.block + first) / 2;
      for (std::int64_t i = 0; i < count; i += 2)
        packed[i / 2] = static_cast<std::uint8_t>(codes[i] << 4 | codes[i + 1]);
    }
  }
}

// Neighbors share a word of each, the earlier in its lower half; several sums, so that additions do not depend on each
// other.
inline float row_product(const Bf16* w, const Bf16* x, std::int64_t columns) {
  constexpr std::int64_t kStep = 2 * kLanes;
  Floats even[2] = {}, odd[2] = {};
  std::int64_t i = 0;
  for (; i + 2 * kStep <= columns; i += 2 * kStep)
    for (std::int64_t k = 0; k < 2; ++k) {
      const Words left = load<Words>(w + i + k * kStep), right = load<Words>(x + i + k * kStep);
      even[k] += reinterpret_cast<Floats>(left << 16) * reinterpret_cast<Floats>(right << 16);
      odd[k] += reinterpret_cast<Floats>(left & 0xffff0000u) * reinterpret_cast<Floats>(right & 0xffff0000u);
    }
  float total = sum((even[0] + odd[0]) + (even[1] + odd[1]));
  for (; i < columns; ++i) total += widen(w[i]) * widen(x[i]);
  return total;
}

// Row by row: one stream from end to end is what processors foresee best.
void vector(const Gemv& a, std::int64_t begin, std::int64_t end) {
  for (std::int64_t row = begin; row < end; ++row)
    a.y[row] = narrow(row_product(a.w + row * a.columns, a.x, a.columns));
}

#if defined(__AVX512BF16__)
inline void add(Floats& sum, Pairs w, Pairs x) {
  sum = reinterpret_cast<Floats>(
      _mm512_dpbf16_ps(reinterpret_cast<__m512>(sum), reinterpret_cast<__m512bh>(w), reinterpret_cast<__m512bh>(x)));
}

// One instruction looks 32 codes up, another multiplies them and adds them up in pairs.
void four_bit_vector(const FourBitGemv& a, std::int64_t begin, std::int64_t end) {
  const auto table = reinterpret_cast<__m512>(load<Floats>(a.table));
  const Bf16 *even = a.halves, *odd = a.halves + a.columns / 2;
  for (std::int64_t row = begin; row < end; ++row) {
    const std::uint8_t* packed = a.packed + row * (a.columns / 2);
    const float* scales = a.scales + row * (a.columns / kBlock);
    Floats sums[2] = {};
    for (std::int64_t block = 0; block < a.columns / kBlock; ++block) {
      if (block % 2 == 0) prefetch(packed + block * kBlock / 2, 1024);
      const Pairs values = values_twice(table, scales[block]);
      const Pairs codes = __builtin_convertvector(load<PairBytes>(packed + block * kBlock / 2), Pairs);
      add(sums[0], __builtin_shuffle(values, codes >> 4), load<Pairs>(even + block * kBlock / 2));
      add(sums[1], __builtin_shuffle(values, codes), load<Pairs>(odd + block * kBlock / 2));
    }
    a.y[row] = narrow(sum(sums[0] + sums[1]));
  }
}
#elif defined(__AVX512BW__)
// One instruction looks 16 codes up, by the lowest four bits of each lane.
void four_bit_vector(const FourBitGemv& a, std::int64_t begin, std::int64_t end) {
  const Floats table = load<Floats>(a.table);
  const std::int64_t quarter = a.columns / 4;
  for (std::int64_t row = begin; row < end; ++row) {
    const std::uint8_t* packed = a.packed + row * (a.columns / 2);
    const float* scales = a.scales + row * (a.columns / kBlock);
    Floats sums[4] = {};
    for (std::int64_t block = 0; block < a.columns / kBlock; ++block) {
      const Floats values = block_values(table, scales[block]);
      const Words codes = __builtin_convertvector(load<HalfWords>(packed + block * kBlock / 2), Words);
      for (std::int64_t k = 0; k < 4; ++k)
        sums[k] += __builtin_shuffle(values, codes >> static_cast<std::uint32_t>(4 * k)) *
                   load<Floats>(a.x + k * quarter + block * kLanes);
    }
    a.y[row] = narrow(sum((sums[0] + sums[1]) + (sums[2] + sums[3])));
  }
}
#else
void four_bit_vector(const FourBitGemv& a, std::int64_t begin, std::int64_t end) {
  const std::int64_t quarter = a.columns / 4;
  for (std::int64_t row = begin; row < end; ++row) {
    float total = 0.0f;
    for (std::int64_t block = 0; block < a.columns / kBlock; ++block) {
      Bf16 values[kBlock];
      const std::int64_t at = row * a.columns + block * kBlock;
      four_bit({a.packed + at / 2, a.table, a.scales + at / kBlock, kBlock, values}, 0, 1);
      const float* x = a.x + block * kBlock / 4;
#pragma omp simd reduction(+ : total)
      for (std::int64_t j = 0; j < kBlock / 4; ++j)
        total += widen(values[4 * j + 1]) * x[j] + widen(values[4 * j]) * x[quarter + j] +
                 widen(values[4 * j + 3]) * x[2 * quarter + j] + widen(values[4 * j + 2]) * x[3 * quarter + j];
    }
    a.y[row] = narrow(total);
  }
}
#endif

#if defined(__AVX512BF16__)
// A code is 128 + its lower seven bits, less 128 or, where its sign is set, 256. Both parts are bfloat16 values that
// two bits of logic make, 0x4300 being 128 with steps of 1: no conversion, which would take longer than the memory.
void int8_vector(const Int8Gemv& a, std::int64_t begin, std::int64_t end) {
  const Bf16 *even = a.halves, *odd = a.halves + a.columns / 2;
  for (std::int64_t row = begin; row < end; ++row) {
    const std::int8_t* codes = a.codes + row * a.columns;
    Floats above[2] = {}, below[2] = {};
    for (std::int64_t i = 0; i < a.columns; i += kBlock) {
      const Pairs earlier = load<Pairs>(codes + i), later = earlier >> 8;
      const Pairs x_even = load<Pairs>(even + i / 2), x_odd = load<Pairs>(odd + i / 2);
      add(above[0], (earlier & 0x7f) | 0x4300, x_even);
      add(below[0], (earlier & 0x80) | 0x4300, x_even);
      add(above[1], (later & 0x7f) | 0x4300, x_odd);
      add(below[1], (later & 0x80) | 0x4300, x_odd);
    }
    a.y[row] = narrow(sum((above[0] + above[1]) - (below[0] + below[1])) * a.scales[row] * a.factor);
  }
}
#else
void int8_vector(const Int8Gemv& a, std::int64_t begin, std::int64_t end) {
  for (std::int64_t row = begin; row < end; ++row) {
    const std::int8_t* codes = a.codes + row * a.columns;
    float total = 0.0f;
    for (std::int64_t i = 0; i < a.columns; i += kBlock) {
      prefetch(codes + i, 2048);
#pragma omp simd reduction(+ : total)
      for (std::int64_t j = i; j < i + kBlock; ++j) total += static_cast<float>(codes[j]) * a.x[j];
    }
    a.y[row] = narrow(total * a.scales[row] * a.factor);
  }
}
#endif

constexpr WeightKernels kWeightKernels{four_bit, four_bit_window, to_four_bit, vector, four_bit_vector, int8_vector};

}  // namespace

const WeightKernels& BEZEL_SIMD_WEIGHT_KERNELS() { return kWeightKernels; }

}  // namespace bezel::kernels::simd
