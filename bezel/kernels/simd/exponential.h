#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace bezel::kernels::simd {

/// e^x = 2^n e^r with n the whole number next to x / ln 2, for a number or a vector of them. Coefficients: Cephes.
static constexpr float kInverseLn2 = 1.44269504088896341f;

/// r, |r| <= ln 2 / 2, from x and n.
template <typename Value>
static inline Value exponent_rest(Value x, Value n) {
  return (x - n * 0.693359375f) + n * 2.12194440e-4f;
}

/// e^r.
template <typename Value>
static inline Value exponential_of_rest(Value r) {
  Value p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  return p * r * r + r + 1.0f;
}

/// e^x within 2 units in the last place.
static inline float exponential(float x) {
  const float bounded = x < -87.3f ? -87.3f : (x > 88.3f ? 88.3f : x);
  const float n = std::nearbyint(bounded * kInverseLn2);
  const float e = exponential_of_rest(exponent_rest(bounded, n));
  const std::int32_t power = (static_cast<std::int32_t>(n) + 127) << 23;
  float scale;
  std::memcpy(&scale, &power, sizeof scale);
  return x != x ? x : e * scale;
}

}  // namespace bezel::kernels::simd
