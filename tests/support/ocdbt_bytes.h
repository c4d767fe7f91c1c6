#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bezel/io/ocdbt_block.h"
#include "tests/support/gguf_bytes.h"

namespace bezel::test {

/// An unsigned LEB128 number.
inline std::string varint(std::uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>((value & 0x7f) | 0x80);
  return bytes + static_cast<char>(value);
}

inline std::string varints(const std::vector<std::uint64_t>& values) {
  std::string bytes;
  for (const std::uint64_t value : values) bytes += varint(value);
  return bytes;
}

inline std::string block_of(const std::string& magic, std::uint64_t compression, const std::string& body) {
  const std::string inside = varint(0) + varint(compression) + body;
  const std::string block = magic + raw<std::uint64_t>(inside.size() + 16) + inside;
  return block + raw(io::crc32c(block));
}

inline std::string node_of(const std::string& body, std::uint64_t compression = 0) {
  return block_of("\x0c\xdb\x20\xde", compression, body);
}

/// A table of data files without shared prefixes.
inline std::string file_table(const std::vector<std::string>& paths, const std::vector<std::uint64_t>& bases = {}) {
  std::string bytes = varint(paths.size()), lengths, base_lengths, text;
  for (std::size_t i = 0; i < paths.size(); ++i) {
    if (i > 0) bytes += varint(0);
    lengths += varint(paths[i].size());
    base_lengths += varint(bases.empty() ? 0 : bases[i]);
    text += paths[i];
  }
  return bytes + lengths + base_lengths + text;
}

/// A manifest whose newest version's root has these places.
struct ManifestBytes {
  std::string path = "d/root";
  std::uint64_t base_length = 0;
  std::uint64_t kind = 0;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  std::uint8_t height = 0;
  std::uint64_t num_keys = 0;

  std::string bytes() const {
    const std::string config = std::string(16, 'u') + varints({kind, 1024, 100000000}) + '\4' + varint(0);
    const std::string version = varints({1, 1}) + static_cast<char>(height) +
                                varints({0, offset, length, num_keys, 0, 0}) + raw<std::uint64_t>(7) + varint(0);
    return block_of("\x0c\xdb\x3a\x2a", 0, config + file_table({path}, {base_length}) + version);
  }
};

}  // namespace bezel::test
