#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace bezel::io {

/// Metadata of a GGUF file, in order.
using NewGgufKeys = std::vector<std::pair<std::string, std::variant<std::string, std::uint32_t, float>>>;

/// A float32 tensor to write; borrows the values.
struct NewGgufTensor {
  std::string name;
  std::vector<std::int64_t> shape;  ///< [rows, columns] as elsewhere; the file lists it the other way round
  const float* data = nullptr;      ///< contiguous, row-major
};

/// Writes a GGUF file (version 3, little-endian), wholly or not at all. Throws Error when a name comes twice, Error
/// (kIo) when writing fails. Reference: ggml/docs/gguf.md.
void write_gguf(const std::string& path, const NewGgufKeys& keys, std::span<const NewGgufTensor> tensors);

}  // namespace bezel::io
