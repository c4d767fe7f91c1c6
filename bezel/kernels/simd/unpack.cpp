// Compiled once for each instruction set, with BEZEL_SIMD_UNPACKERS naming what it defines.
#include "bezel/kernels/simd/unpack.h"

#include <cmath>
#include <cstring>

namespace bezel::kernels::simd {
namespace {

inline void put(float* out, float value) { *out = value; }
inline void put(Bf16* out, float value) { *out = narrow(value); }

// The float16 at `at`.
inline float half(const std::uint8_t* at) {
  std::uint16_t bits;
  std::memcpy(&bits, at, sizeof bits);
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16, exponent = (bits >> 10) & 31u;
  const std::uint32_t fraction = bits & 0x3ffu;
  if (exponent == 0) {  // a multiple of 2^-24, which float32 holds as a normal number
    const float small = static_cast<float>(fraction) * 0x1p-24f;
    return sign != 0 ? -small : small;
  }
  const std::uint32_t wide = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | fraction << 13;
  float value;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}

// The forms. A block of 32 holds value i in the lower half of byte i and value i + 16 in the upper one; in those with a
// fifth bit, it is bit i of a word of 32.
template <bool kHasMinimum, bool kHasFifthBit>
struct Nibbles {
  static constexpr std::int64_t kElements = 32;
  static constexpr std::int64_t kCodes = 2 + (kHasMinimum ? 2 : 0) + (kHasFifthBit ? 4 : 0), kBytes = kCodes + 16;

  template <typename Out>
  static void unpack(const std::uint8_t* block, Out* out) {
    const float scale = half(block), minimum = kHasMinimum ? half(block + 2) : 0.0f;
    constexpr std::int32_t kZero = kHasMinimum ? 0 : (kHasFifthBit ? 16 : 8);
    const std::uint8_t* codes = block + kCodes;
    std::uint32_t fifth = 0;
    if (kHasFifthBit) std::memcpy(&fifth, codes - 4, sizeof fifth);
    const auto value = [&](std::uint32_t code, std::uint32_t bit) {
      const auto whole = static_cast<std::int32_t>(kHasFifthBit ? code | (fifth >> bit & 1u) << 4 : code) - kZero;
      const float product = scale * static_cast<float>(whole);
      return kHasMinimum ? product + minimum : product;
    };
#pragma omp simd
    for (std::uint32_t i = 0; i < 16; ++i) put(out + i, value(codes[i] & 15u, i));
#pragma omp simd
    for (std::uint32_t i = 0; i < 16; ++i) put(out + 16 + i, value(codes[i] >> 4, i + 16));
  }
};

struct Bytes {
  static constexpr std::int64_t kElements = 32, kBytes = 34;

  template <typename Out>
  static void unpack(const std::uint8_t* block, Out* out) {
    const float scale = half(block);
    const auto* codes = reinterpret_cast<const std::int8_t*>(block + 2);
#pragma omp simd
    for (std::int64_t i = 0; i < 32; ++i) put(out + i, scale * static_cast<float>(codes[i]));
  }
};

// A block of 256 in 8 parts, with a scale and a minimum of 6 bits each: four of either, then the lower halves of the
// other four in four bytes, whose upper two bits stand above those of the first four.
inline void part_scales(const std::uint8_t* packed, float scale, float minimum, float* scales, float* minima) {
  for (int i = 0; i < 4; ++i) {
    scales[i] = scale * static_cast<float>(packed[i] & 63);
    minima[i] = minimum * static_cast<float>(packed[i + 4] & 63);
    scales[i + 4] = scale * static_cast<float>((packed[i + 8] & 15) | (packed[i] >> 6) << 4);
    minima[i + 4] = minimum * static_cast<float>(packed[i + 8] >> 4 | (packed[i + 4] >> 6) << 4);
  }
}

template <bool kHasFifthBit>
struct SuperNibbles {
  static constexpr std::int64_t kElements = 256, kBytes = 2 + 2 + 12 + (kHasFifthBit ? 32 : 0) + 128;

  template <typename Out>
  static void unpack(const std::uint8_t* block, Out* out) {
    float scales[8], minima[8];
    part_scales(block + 4, half(block), half(block + 2), scales, minima);
    const std::uint8_t *fifth = block + 16, *codes = fifth + (kHasFifthBit ? 32 : 0);
    for (int part = 0; part < 8; part += 2, codes += 32, out += 64) {
      const auto bit = [&](std::int64_t i, int of) { return kHasFifthBit ? (fifth[i] >> of & 1) << 4 : 0; };
#pragma omp simd
      for (std::int64_t i = 0; i < 32; ++i)
        put(out + i, scales[part] * static_cast<float>((codes[i] & 15) | bit(i, part)) - minima[part]);
#pragma omp simd
      for (std::int64_t i = 0; i < 32; ++i)
        put(out + 32 + i, scales[part + 1] * static_cast<float>(codes[i] >> 4 | bit(i, part + 1)) - minima[part + 1]);
    }
  }
};

// A block of 256 in two halves of 128: 64 bytes of lower halves and 32 of pairs of bits each, then 16 scales.
struct SixBits {
  static constexpr std::int64_t kElements = 256, kBytes = 128 + 64 + 16 + 2;

  template <typename Out>
  static void unpack(const std::uint8_t* block, Out* out) {
    const float scale = half(block + 208);
    const auto* scales = reinterpret_cast<const std::int8_t*>(block + 192);
    for (int i = 0; i < 2; ++i, out += 128, scales += 8) {
      const std::uint8_t *lower = block + i * 64, *upper = block + 128 + i * 32;
      quarter<0>(lower, upper, scale, scales, out);
      quarter<1>(lower, upper, scale, scales, out);
      quarter<2>(lower, upper, scale, scales, out);
      quarter<3>(lower, upper, scale, scales, out);
    }
  }

 private:
  // 32 values of a half, with a scale for either 16.
  template <int kQuarter, typename Out>
  static void quarter(const std::uint8_t* lower, const std::uint8_t* upper, float scale, const std::int8_t* scales,
                      Out* out) {
    for (int part = 0; part < 2; ++part) {
      const float own = scale * static_cast<float>(scales[kQuarter * 2 + part]);
      const std::uint8_t *low = lower + kQuarter % 2 * 32 + part * 16, *high = upper + part * 16;
#pragma omp simd
      for (std::int64_t i = 0; i < 16; ++i) {
        const int nibble = low[i] >> (kQuarter / 2 * 4) & 15, pair = high[i] >> (kQuarter * 2) & 3;
        put(out + kQuarter * 32 + part * 16 + i, own * static_cast<float>((nibble | pair << 4) - 32));
      }
    }
  }
};

template <typename Form>
void unpack(const Unpack& a, std::int64_t begin, std::int64_t end) {
  for (std::int64_t i = begin; i < end; ++i) {
    const std::uint8_t* block = a.blocks + i * Form::kBytes;
    if (a.wide != nullptr)
      Form::unpack(block, a.wide + i * Form::kElements);
    else
      Form::unpack(block, a.narrow + i * Form::kElements);
  }
}

template <typename Form>
void product(const PackedProduct& a, std::int64_t begin, std::int64_t end) {
  constexpr std::int64_t kLanes = 16;
  const std::int64_t blocks = a.columns / Form::kElements;
  for (std::int64_t row = begin; row < end; ++row) {
    float sums[kLanes] = {}, values[Form::kElements];
    for (std::int64_t i = 0; i < blocks; ++i) {
      Form::unpack(a.rows + (row * blocks + i) * Form::kBytes, values);
      const float* x = a.x + i * Form::kElements;
      for (std::int64_t at = 0; at < Form::kElements; at += kLanes) {
#pragma omp simd
        for (std::int64_t lane = 0; lane < kLanes; ++lane) sums[lane] += values[at + lane] * x[at + lane];
      }
    }
    float sum = 0.0f;
    for (const float part : sums) sum += part;
    a.y[row] = narrow(sum);
  }
}

template <typename Form>
constexpr PackedLoops kLoops{unpack<Form>, product<Form>};

constexpr Unpackers kUnpackers{kLoops<Nibbles<false, false>>,
                               kLoops<Nibbles<true, false>>,
                               kLoops<Nibbles<false, true>>,
                               kLoops<Nibbles<true, true>>,
                               kLoops<Bytes>,
                               kLoops<SuperNibbles<false>>,
                               kLoops<SuperNibbles<true>>,
                               kLoops<SixBits>};

}  // namespace

const Unpackers& BEZEL_SIMD_UNPACKERS() { return kUnpackers; }

}  // namespace bezel::kernels::simd
