#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "bezel/error.h"

/// One input; libFuzzer's and replay.cpp's entry. Each target defines it.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace bezel::fuzz {

inline std::string_view as_text(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

inline std::span<const std::byte> as_bytes(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const std::byte*>(data), size};
}

/// What must hold whatever the input is.
inline void require(bool holds) {
  if (!holds) std::abort();
}

/// What `read` returns, or nothing when it throws bezel::Error, which is what bad input should get. All else that is
/// thrown ends the program.
template <typename Read>
auto accepted(Read&& read) -> std::optional<decltype(read())> {
  try {
    return read();
  } catch (const Error& error) {
    require(error.what()[0] != '\0');
    return std::nullopt;
  }
}

/// The same `size` bytes as a regular file, of which the path is returned; the next call replaces it.
std::string as_file(const std::uint8_t* data, std::size_t size);

}  // namespace bezel::fuzz
