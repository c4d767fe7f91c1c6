#include "bezel/kernels/pack_blocks.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include <c10/util/Half.h>

namespace bezel::kernels {
namespace {

constexpr int kBlock = 32;
constexpr int kHalfBlock = kBlock / 2;

float reciprocal(float scale) { return scale != 0.0f ? 1.0f / scale : 0.0f; }

// Codes of 4 or 5 bits: the lower four in halves of bytes, first half of the block below, and the fifth bits as 32.
void put_codes(const int* codes, bool has_fifth_bit, std::uint8_t* out) {
  if (has_fifth_bit) {
    std::uint32_t fifth = 0;
    for (int i = 0; i < kBlock; ++i) fifth |= static_cast<std::uint32_t>(codes[i] >> 4) << i;
    std::memcpy(out, &fifth, sizeof fifth);
    out += sizeof fifth;
  }
  for (int i = 0; i < kHalfBlock; ++i)
    out[i] = static_cast<std::uint8_t>((codes[i] & 15) | ((codes[i + kHalfBlock] & 15) << 4));
}

// Q4_0 and Q5_0: codes around the middle; the value of largest magnitude gets the lowest code.
template <int kCodes>
void pack_symmetric(const float* x, std::uint8_t* out) {
  constexpr float kMiddle = kCodes / 2;
  const float scale = extreme_of(x, kBlock) / -kMiddle;
  const float inverse = reciprocal(scale);
  int codes[kBlock];
  for (int i = 0; i < kBlock; ++i) codes[i] = std::min(kCodes - 1, static_cast<int>(x[i] * inverse + (kMiddle + 0.5f)));
  put_half(scale, out);
  put_codes(codes, kCodes > 16, out + 2);
}

// Q4_1 and Q5_1: codes from the smallest value to the largest.
template <int kCodes>
void pack_with_minimum(const float* x, std::uint8_t* out) {
  const auto [smallest, largest] = std::minmax_element(x, x + kBlock);
  const float minimum = *smallest, scale = (*largest - minimum) / (kCodes - 1);
  const float inverse = reciprocal(scale);
  int codes[kBlock];
  for (int i = 0; i < kBlock; ++i) codes[i] = std::min(kCodes - 1, static_cast<int>((x[i] - minimum) * inverse + 0.5f));
  put_half(scale, out);
  put_half(minimum, out + 2);
  put_codes(codes, kCodes > 16, out + 4);
}

void pack_bytes(const float* x, std::uint8_t* out) {
  const float scale = std::fabs(extreme_of(x, kBlock)) / 127.0f;
  const float inverse = reciprocal(scale);
  put_half(scale, out);
  for (int i = 0; i < kBlock; ++i)
    out[2 + i] = static_cast<std::uint8_t>(static_cast<std::int8_t>(std::round(x[i] * inverse)));
}

}  // namespace

float extreme_of(const float* x, int count) {
  float largest = 0.0f, found = 0.0f;
  for (int i = 0; i < count; ++i)
    if (const float magnitude = std::fabs(x[i]); magnitude > largest) {
      largest = magnitude;
      found = x[i];
    }
  return found;
}

float put_half(float value, std::uint8_t* out) {
  const c10::Half half(value);
  std::memcpy(out, &half.x, sizeof half.x);
  return static_cast<float>(half);
}

PackBlock block_packer(io::GgufType type) {
  switch (type) {
    case io::GgufType::kQ4_0:
      return pack_symmetric<16>;
    case io::GgufType::kQ4_1:
      return pack_with_minimum<16>;
    case io::GgufType::kQ5_0:
      return pack_symmetric<32>;
    case io::GgufType::kQ5_1:
      return pack_with_minimum<32>;
    case io::GgufType::kQ8_0:
      return pack_bytes;
    default:
      return superblock_packer(type);
  }
}

}  // namespace bezel::kernels
