#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

namespace bezel::test {

template <typename T>
std::string raw(T value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

inline std::string gguf_text(const std::string& text) { return raw<std::uint64_t>(text.size()) + text; }

/// A GGUF file in the making, right in every detail that is not changed.
struct GgufBytes {
  std::string magic = "GGUF";
  std::uint32_t version = 3;
  std::uint64_t num_tensors = 0;
  std::uint64_t num_keys = 0;
  std::string keys;
  std::string tensors;
  std::string data;
  std::uint64_t alignment = 32;

  /// Adds a key whose value is `type` and `value` as they stand in the file.
  GgufBytes& key(const std::string& name, std::uint32_t type, const std::string& value) {
    keys += gguf_text(name) + raw(type) + value;
    ++num_keys;
    return *this;
  }
  GgufBytes& key(const std::string& name, std::uint32_t value) { return key(name, 4, raw(value)); }
  GgufBytes& key(const std::string& name, const std::string& value) { return key(name, 8, gguf_text(value)); }
  /// Adds a list of `count` values of `type`.
  GgufBytes& list(const std::string& name, std::uint32_t type, std::uint64_t count, const std::string& values) {
    return key(name, 9, raw(type) + raw(count) + values);
  }

  /// Adds what the list of tensors says of one; `dims` as in the file, columns first.
  GgufBytes& info(const std::string& name, const std::vector<std::uint64_t>& dims, std::uint32_t type,
                  std::uint64_t offset) {
    tensors += gguf_text(name) + raw<std::uint32_t>(static_cast<std::uint32_t>(dims.size()));
    for (const std::uint64_t dim : dims) tensors += raw(dim);
    tensors += raw(type) + raw(offset);
    ++num_tensors;
    return *this;
  }
  /// Adds a tensor with its data.
  GgufBytes& tensor(const std::string& name, const std::vector<std::uint64_t>& dims, std::uint32_t type,
                    const std::string& bytes) {
    info(name, dims, type, data.size());
    data += bytes;
    data.resize((data.size() + alignment - 1) / alignment * alignment);
    return *this;
  }

  std::string bytes() const {
    std::string file = magic + raw(version) + raw(num_tensors) + raw(num_keys) + keys + tensors;
    if (!data.empty() || num_tensors > 0) file.resize((file.size() + alignment - 1) / alignment * alignment);
    return file + data;
  }
};

}  // namespace bezel::test
