#pragma once

#include <cstdint>
#include <string_view>

/// Hashes that random numbers follow from: the same on every machine, device and instruction set.
namespace bezel::kernels {

/// A bijection of 64 bits in which every bit of the input changes half of the output. Reference: splitmix64's
/// finalizer.
constexpr std::uint64_t mix64(std::uint64_t z) {
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
  z = (z ^ z >> 27) * 0x94D049BB133111EBu;
  return z ^ z >> 31;
}

/// One key from two; the order counts.
constexpr std::uint64_t combine_keys(std::uint64_t first, std::uint64_t second) {
  return mix64(mix64(first + 0x9E3779B97F4A7C15u) ^ second);
}

/// FNV-1a of a name, such as that of an adapted layer.
constexpr std::uint64_t name_key(std::string_view name) {
  std::uint64_t hash = 0xCBF29CE484222325u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  return mix64(hash);
}

}  // namespace bezel::kernels
