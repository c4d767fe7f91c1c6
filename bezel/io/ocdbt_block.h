#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace bezel::io {

/// CRC-32C (Castagnoli) of `data`; reference: RFC 3720, appendix B.4.
std::uint32_t crc32c(std::string_view data);

/// Numbers and texts of a decoded block, one after the other. Throws Error naming `where` when they end early.
class BlockReader {
 public:
  BlockReader(std::string_view body, std::string where) : rest_(body), where_(std::move(where)) {}

  std::string_view take(std::uint64_t size_bytes);
  std::uint8_t u8();
  std::uint32_t u32();  ///< little-endian
  std::uint64_t u64();  ///< little-endian
  /// An unsigned LEB128 number of at most 64 bits.
  std::uint64_t varint();
  /// `count` of them; refused unless that many bytes are left.
  std::vector<std::uint64_t> varints(std::uint64_t count);
  /// A count of entries, each of which takes one byte or more.
  std::uint64_t count();
  /// `lengths.size()` texts, each after the prefix it shares with the one before: prefix lengths first, but that of
  /// the first, which has none.
  std::vector<std::string> prefixed_texts(const std::vector<std::uint64_t>& prefixes,
                                          const std::vector<std::uint64_t>& lengths);

  std::size_t left_bytes() const { return rest_.size(); }
  const std::string& where() const { return where_; }
  [[noreturn]] void fail(std::string_view what) const;

 private:
  std::string_view rest_;
  std::string where_;
};

enum class BlockKind : std::uint32_t { kManifest = 0x0cdb3a2a, kTreeNode = 0x0cdb20de };

inline constexpr std::uint64_t kMaxBlockBytes = std::uint64_t{256} << 20;

/// The body of a block: checks magic, length, checksum and version, and decompresses. Throws Error naming `where`.
std::string open_block(std::string_view block, BlockKind kind, const std::string& where);

}  // namespace bezel::io
