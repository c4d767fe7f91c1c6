#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace bezel::kernels::simd {

/// e^x within 2 units in the last place: 2^n times a polynomial in the rest, |rest| <= ln 2 / 2. Coefficients: Cephes.
static inline float exponential(float x) {
  const float bounded = x < -87.3f ? -87.3f : (x > 88.3f ? 88.3f : x);
  const float n = std::nearbyint(bounded * 1.44269504088896341f);
  const float r = (bounded - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const float e = p * r * r + r + 1.0f;
  const std::int32_t power = (static_cast<std::int32_t>(n) + 127) << 23;
  float scale;
  std::memcpy(&scale, &power, sizeof scale);
  return x != x ? x : e * scale;
}

}  // namespace bezel::kernels::simd
