// Compiled once for each instruction set, with BEZEL_SIMD_UNPACKERS naming what it defines.
#include "bezel/kernels/simd/unpack.h"

#include <cmath>
#include <cstring>

#include "bezel/kernels/simd/vectors.h"

namespace bezel::kernels::simd {
namespace {

// The float16 at `at`.
inline float half(const std::uint8_t* at) {
  std::uint16_t bits;
  std::memcpy(&bits, at, sizeof bits);
  // As a float32, its exponent counts from elsewhere; what float16 has too small for a normal number is put right too.
  std::uint32_t wide = static_cast<std::uint32_t>(bits & 0x7fffu) << 13;
  float value;
  std::memcpy(&value, &wide, sizeof value);
  value *= 0x1p112f;
  std::memcpy(&wide, &value, sizeof wide);
  if ((bits & 0x7c00u) == 0x7c00u) wide = 0x7f800000u | static_cast<std::uint32_t>(bits & 0x3ffu) << 13;  // Inf, NaN
  wide |= static_cast<std::uint32_t>(bits & 0x8000u) << 16;  // by a branch, half of them would be guessed wrong
  std::memcpy(&value, &wide, sizeof value);
  return value;
}

using Ints = std::int32_t __attribute__((vector_size(4 * kWide), aligned(4)));
#if defined(__AVX512F__)
constexpr Words kPlaces = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#else
constexpr Words kPlaces = {0, 1, 2, 3, 4, 5, 6, 7};
#endif

// Bytes and signed bytes as words. GCC 12 would take its own conversion of four times the width apart.
#if defined(__AVX512F__)
inline Words words(const std::uint8_t* bytes) {
  return reinterpret_cast<Words>(_mm512_maskz_cvtepu8_epi32(0xffff, load<__m128i>(bytes)));
}
inline Ints ints(const std::uint8_t* bytes) {
  return reinterpret_cast<Ints>(_mm512_maskz_cvtepi8_epi32(0xffff, load<__m128i>(bytes)));
}
#elif defined(__AVX2__)
inline __m128i eight(const std::uint8_t* bytes) { return _mm_set_epi64x(0, load<std::int64_t>(bytes)); }
inline Words words(const std::uint8_t* bytes) { return reinterpret_cast<Words>(_mm256_cvtepu8_epi32(eight(bytes))); }
inline Ints ints(const std::uint8_t* bytes) { return reinterpret_cast<Ints>(_mm256_cvtepi8_epi32(eight(bytes))); }
#else
using ByteLanes = std::uint8_t __attribute__((vector_size(kWide), aligned(1)));
using SignedByteLanes = std::int8_t __attribute__((vector_size(kWide), aligned(1)));
inline Words words(const std::uint8_t* bytes) { return __builtin_convertvector(load<ByteLanes>(bytes), Words); }
inline Ints ints(const std::uint8_t* bytes) { return __builtin_convertvector(load<SignedByteLanes>(bytes), Ints); }
#endif
inline Floats floats(Ints whole) { return __builtin_convertvector(whole, Floats); }
inline Floats floats(Words codes, std::int32_t zero) { return floats(reinterpret_cast<Ints>(codes) - zero); }

// The forms: each gives `put` the values of a block, a vector at a time, with the place of the first. A block of 32
// holds value i in the lower half of byte i and value i + 16 in the upper one; in those with a fifth bit, it is bit i
// of a word of 32.
template <bool kHasMinimum, bool kHasFifthBit>
struct Nibbles {
  static constexpr std::int64_t kElements = 32;
  static constexpr std::int64_t kCodes = 2 + (kHasMinimum ? 2 : 0) + (kHasFifthBit ? 4 : 0), kBytes = kCodes + 16;

  template <typename Put>
  static void each(const std::uint8_t* block, const Put& put) {
    const float scale = half(block), minimum = kHasMinimum ? half(block + 2) : 0.0f;
    constexpr std::int32_t kZero = kHasMinimum ? 0 : (kHasFifthBit ? 16 : 8);
    const std::uint8_t* codes = block + kCodes;
    std::uint32_t fifth = 0;
    if (kHasFifthBit) std::memcpy(&fifth, codes - 4, sizeof fifth);
    const auto give = [&](Words lower, std::uint32_t at) {
      if (kHasFifthBit) lower |= ((fifth >> (kPlaces + at)) & 1u) << 4;
      const Floats product = scale * floats(lower, kZero);
      put(at, kHasMinimum ? product + minimum : product);
    };
    for (std::uint32_t at = 0; at < 16; at += kWide) {
      const Words pairs = words(codes + at);
      give(pairs & 15u, at);
      give(pairs >> 4, at + 16);
    }
  }
};

struct Bytes {
  static constexpr std::int64_t kElements = 32, kBytes = 34;

  template <typename Put>
  static void each(const std::uint8_t* block, const Put& put) {
    const float scale = half(block);
    for (std::int64_t at = 0; at < 32; at += kWide) put(at, scale * floats(ints(block + 2 + at)));
  }
};

// A block of 256 in 8 parts, with a scale and a minimum of 6 bits each: four of either, then the lower halves of the
// other four in four bytes, whose upper two bits are above those of the first four.
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

  template <typename Put>
  static void each(const std::uint8_t* block, const Put& put) {
    float scales[8], minima[8];
    part_scales(block + 4, half(block), half(block + 2), scales, minima);
    const std::uint8_t *fifth = block + 16, *codes = fifth + (kHasFifthBit ? 32 : 0);
    for (int part = 0; part < 8; part += 2, codes += 32) {
      const auto give = [&](Words lower, int of, std::int64_t at) {
        if (kHasFifthBit) lower |= ((words(fifth + at) >> of) & 1u) << 4;
        put(of * 32 + at, scales[of] * floats(lower, 0) - minima[of]);
      };
      for (std::int64_t at = 0; at < 32; at += kWide) {
        const Words pairs = words(codes + at);
        give(pairs & 15u, part, at);
        give(pairs >> 4, part + 1, at);
      }
    }
  }
};

// A block of 256 in two halves of 128: 64 bytes of lower halves and 32 of pairs of bits each, then 16 scales. Byte i of
// the pairs belongs to values i, i + 32, i + 64 and i + 96; a scale to 16 values.
struct SixBits {
  static constexpr std::int64_t kElements = 256, kBytes = 128 + 64 + 16 + 2;

  template <typename Put>
  static void each(const std::uint8_t* block, const Put& put) {
    const float scale = half(block + 208);
    const auto* scales = reinterpret_cast<const std::int8_t*>(block + 192);
    for (int i = 0; i < 2; ++i, scales += 8) {
      const auto give = [&](Words nibble, Words pair, int quarter, std::int64_t at) {
        const float own = scale * static_cast<float>(scales[quarter * 2 + at / 16]);
        put(i * 128 + quarter * 32 + at, own * floats(nibble | ((pair & 3u) << 4), 32));
      };
      for (std::int64_t at = 0; at < 32; at += kWide) {
        const Words first = words(block + i * 64 + at), second = words(block + i * 64 + 32 + at);
        const Words upper = words(block + 128 + i * 32 + at);
        give(first & 15u, upper, 0, at);
        give(second & 15u, upper >> 2, 1, at);
        give(first >> 4, upper >> 4, 2, at);
        give(second >> 4, upper >> 6, 3, at);
      }
    }
  }
};

// A block of 256 in two halves of 128: byte i of the 32 of a half has two bits of values i, i + 32, i + 64 and i + 96.
// 16 values share a scale and a minimum of 4 bits each.
struct TwoBits {
  static constexpr std::int64_t kElements = 256, kBytes = 16 + 64 + 2 + 2;

  template <typename Put>
  static void each(const std::uint8_t* block, const Put& put) {
    const float scale = half(block + 80), minimum = half(block + 82);
    for (int i = 0; i < 2; ++i) {
      for (std::int64_t at = 0; at < 32; at += kWide) {
        const Words bytes = words(block + 16 + i * 32 + at);
        for (int quarter = 0; quarter < 4; ++quarter) {
          const std::uint8_t both = block[i * 8 + quarter * 2 + at / 16];
          const float own = scale * static_cast<float>(both & 15), less = minimum * static_cast<float>(both >> 4);
          put(i * 128 + quarter * 32 + at, own * floats((bytes >> (2 * quarter)) & 3u, 0) - less);
        }
      }
    }
  }
};

// The same with a third bit: bit `quarter` of byte i of the first 32 is of the first half, bit 4 + `quarter` of the
// second. Scales have 6 bits: their lower 4 in eight bytes, their upper 2 in four more.
struct ThreeBits {
  static constexpr std::int64_t kElements = 256, kBytes = 32 + 64 + 12 + 2;

  static float scale_of(const std::uint8_t* packed, std::int64_t idx) {
    const int lower = idx < 8 ? packed[idx] & 15 : packed[idx - 8] >> 4;
    const int upper = packed[8 + idx % 4] >> (2 * (idx / 4)) & 3;
    return static_cast<float>((lower | upper << 4) - 32);
  }

  template <typename Put>
  static void each(const std::uint8_t* block, const Put& put) {
    const float scale = half(block + 108);
    for (int i = 0; i < 2; ++i) {
      for (std::int64_t at = 0; at < 32; at += kWide) {
        const Words bytes = words(block + 32 + i * 32 + at), third = words(block + at) >> (4 * i);
        for (int quarter = 0; quarter < 4; ++quarter) {
          const float own = scale * scale_of(block + 96, i * 8 + quarter * 2 + at / 16);
          const Words code = ((bytes >> (2 * quarter)) & 3u) | ((third >> quarter) & 1u) << 2;
          put(i * 128 + quarter * 32 + at, own * floats(code, 4));
        }
      }
    }
  }
};

// What the codes of ggml's tables stand for.
constexpr float kUneven[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
constexpr float kTwiceE2m1[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

inline Floats look_up(const float* table, Words codes) {
#if defined(__AVX512F__)
  return reinterpret_cast<Floats>(
      _mm512_maskz_permutexvar_ps(0xffff, reinterpret_cast<__m512i>(codes), load<__m512>(table)));
#elif defined(__AVX2__)
  const auto idx = reinterpret_cast<__m256i>(codes);
  const __m256 lower = _mm256_permutevar8x32_ps(load<__m256>(table), idx);
  const __m256 upper = _mm256_permutevar8x32_ps(load<__m256>(table + 8), idx);
  const Words beyond = codes << 28;  // its sign chooses
  return reinterpret_cast<Floats>(_mm256_blendv_ps(lower, upper, reinterpret_cast<__m256>(beyond)));
#else
  Floats values;
  for (int i = 0; i < kWide; ++i) values[i] = table[codes[i]];
  return values;
#endif
}

// 16 bytes of codes: value i in the lower half of byte i, value i + 16 in the upper one.
template <typename Put>
inline void each_of_table(const std::uint8_t* codes, const float* table, float scale, std::int64_t first,
                          const Put& put) {
  for (std::int64_t at = 0; at < 16; at += kWide) {
    const Words pairs = words(codes + at);
    put(first + at, scale * look_up(table, pairs & 15u));
    put(first + at + 16, scale * look_up(table, pairs >> 4));
  }
}

struct UnevenNibbles {
  static constexpr std::int64_t kElements = 32, kBytes = 2 + 16;

  template <typename Put>
  static void each(const std::uint8_t* block, const Put& put) {
    each_of_table(block + 2, kUneven, half(block), 0, put);
  }
};

// Eight parts of 32, each with a scale of 6 bits: the upper 2 of all in a word of 16, then the lower 4 in pairs.
struct SuperUnevenNibbles {
  static constexpr std::int64_t kElements = 256, kBytes = 2 + 2 + 4 + 128;

  template <typename Put>
  static void each(const std::uint8_t* block, const Put& put) {
    const float scale = half(block);
    for (int part = 0; part < 8; ++part) {
      const int lower = block[4 + part / 2] >> (4 * (part % 2)) & 15;
      const int upper = block[2 + part / 4] >> (2 * (part % 4)) & 3;
      const float own = scale * static_cast<float>((lower | upper << 4) - 32);
      each_of_table(block + 8 + part * 16, kUneven, own, part * 32, put);
    }
  }
};

// Half of the power of two whose exponent a byte is.
inline float half_of_power(std::uint8_t exponent) {
  const std::uint32_t bits =
      exponent < 2 ? std::uint32_t{0x00200000} << exponent : static_cast<std::uint32_t>(exponent - 1) << 23;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

struct MicroscaledNibbles {
  static constexpr std::int64_t kElements = 32, kBytes = 1 + 16;

  template <typename Put>
  static void each(const std::uint8_t* block, const Put& put) {
    each_of_table(block + 1, kTwiceE2m1, half_of_power(block[0]), 0, put);
  }
};

template <typename Form>
void unpack(const Unpack& a, std::int64_t begin, std::int64_t end) {
  for (std::int64_t i = begin; i < end; ++i) {
    const std::uint8_t* block = a.blocks + i * Form::kBytes;
    const std::int64_t first = i * Form::kElements;
    if (a.wide != nullptr)
      Form::each(block, [&](std::int64_t at, Floats values) { store(a.wide + first + at, values); });
    else
      Form::each(block, [&](std::int64_t at, Floats values) { store_narrow(a.narrow + first + at, values); });
  }
}

template <typename Form>
void product(const PackedProduct& a, std::int64_t begin, std::int64_t end) {
  const std::int64_t blocks = a.columns / Form::kElements;
  for (std::int64_t row = begin; row < end; ++row) {
    Floats sums[2] = {};  // two chains of additions
    for (std::int64_t i = 0; i < blocks; ++i) {
      const float* x = a.x + i * Form::kElements;
      Form::each(a.rows + (row * blocks + i) * Form::kBytes,
                 [&](std::int64_t at, Floats values) { sums[at / kWide % 2] += values * load<Floats>(x + at); });
    }
    a.y[row] = narrow(sum_of(sums[0] + sums[1]));
  }
}

template <typename Form>
constexpr PackedLoops kLoops{unpack<Form>, product<Form>};

constexpr Unpackers kUnpackers{kLoops<Nibbles<false, false>>,
                               kLoops<Nibbles<true, false>>,
                               kLoops<Nibbles<false, true>>,
                               kLoops<Nibbles<true, true>>,
                               kLoops<Bytes>,
                               kLoops<TwoBits>,
                               kLoops<ThreeBits>,
                               kLoops<SuperNibbles<false>>,
                               kLoops<SuperNibbles<true>>,
                               kLoops<SixBits>,
                               kLoops<UnevenNibbles>,
                               kLoops<SuperUnevenNibbles>,
                               kLoops<MicroscaledNibbles>};

}  // namespace

const Unpackers& BEZEL_SIMD_UNPACKERS() { return kUnpackers; }

}  // namespace bezel::kernels::simd
