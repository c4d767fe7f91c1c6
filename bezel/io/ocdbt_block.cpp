#include "bezel/io/ocdbt_block.h"

#include <array>
#include <cstring>

#include "bezel/error.h"
#include "bezel/io/zstd_stream.h"

namespace bezel::io {
namespace {

constexpr std::size_t kHeaderBytes = 12, kChecksumBytes = 4;
constexpr std::size_t kMaxTextBytes = 4096;  // of one key or path

constexpr std::array<std::uint32_t, 256> make_crc_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1) != 0 ? 0x82f63b78u : 0u);
    table[i] = value;
  }
  return table;
}

constexpr std::array<std::uint32_t, 256> kCrcTable = make_crc_table();

}  // namespace

std::uint32_t crc32c(std::string_view data) {
  std::uint32_t crc = ~0u;
  for (const char byte : data) crc = kCrcTable[(crc ^ static_cast<std::uint8_t>(byte)) & 0xff] ^ (crc >> 8);
  return ~crc;
}

void BlockReader::fail(std::string_view what) const {
  throw Error(where_, ": ", what, "; the file is damaged, fetch it again");
}

std::string_view BlockReader::take(std::uint64_t size_bytes) {
  if (size_bytes > rest_.size()) fail("the block ends within a field");
  const std::string_view taken = rest_.substr(0, size_bytes);
  rest_.remove_prefix(size_bytes);
  return taken;
}

std::uint8_t BlockReader::u8() { return static_cast<std::uint8_t>(take(1)[0]); }

std::uint32_t BlockReader::u32() {
  std::uint32_t value = 0;
  std::memcpy(&value, take(sizeof value).data(), sizeof value);
  return value;
}

std::uint64_t BlockReader::u64() {
  std::uint64_t value = 0;
  std::memcpy(&value, take(sizeof value).data(), sizeof value);
  return value;
}

std::uint64_t BlockReader::varint() {
  std::uint64_t value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    const std::uint64_t byte = u8();
    if (shift == 63 && byte > 1) break;
    value |= (byte & 0x7f) << shift;
    if (byte < 0x80) return value;
  }
  fail("a number is longer than 64 bits");
}

std::vector<std::uint64_t> BlockReader::varints(std::uint64_t count) {
  if (count > rest_.size()) fail("a list is longer than the block");
  std::vector<std::uint64_t> values(count);
  for (std::uint64_t& value : values) value = varint();
  return values;
}

std::uint64_t BlockReader::count() {
  const std::uint64_t value = varint();
  if (value > rest_.size()) fail("a list is longer than the block");
  return value;
}

std::vector<std::string> BlockReader::prefixed_texts(const std::vector<std::uint64_t>& prefixes,
                                                     const std::vector<std::uint64_t>& lengths) {
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    const std::uint64_t prefix = i == 0 ? 0 : prefixes[i - 1];
    if (i > 0 && prefix > texts.back().size()) fail("a prefix is longer than the text before it");
    if (lengths[i] > kMaxTextBytes || prefix + lengths[i] > kMaxTextBytes) fail("a key or path is too long");
    const std::string begin = i == 0 ? "" : texts.back().substr(0, prefix);
    texts.push_back(begin + std::string(take(lengths[i])));
  }
  return texts;
}

std::string open_block(std::string_view block, BlockKind kind, const std::string& where) {
  BlockReader header(block, where);
  if (block.size() < kHeaderBytes + 2 + kChecksumBytes) header.fail("the block is too short");
  std::uint32_t magic = 0;
  for (int i = 0; i < 4; ++i) magic = magic << 8 | header.u8();
  if (magic != static_cast<std::uint32_t>(kind)) header.fail("not a block of OCDBT: its first four bytes are others");
  const std::uint64_t length_bytes = header.u64();
  if (length_bytes != block.size())
    throw Error(where, ": the block says it has ", length_bytes, " bytes, but has ", block.size(),
                "; the file is damaged, fetch it again");
  const std::size_t body_end = block.size() - kChecksumBytes;
  const std::uint32_t stated = BlockReader(block.substr(body_end), where).u32();
  if (crc32c(block.substr(0, body_end)) != stated) header.fail("the checksum (CRC-32C) does not fit the bytes");
  BlockReader reader(block.substr(kHeaderBytes, body_end - kHeaderBytes), where);
  const std::uint64_t version = reader.varint();
  if (version != 0) throw Error(where, ": version ", version, " of OCDBT, expected 0");
  const std::uint64_t compression = reader.varint();
  const std::string_view body = reader.take(reader.left_bytes());
  if (compression == 0) return std::string(body);
  if (compression != 1) throw Error(where, ": compression ", compression, ", expected 0 (none) or 1 (zstd)");
  return decode_zstd_text(body, kMaxBlockBytes, where);
}

}  // namespace bezel::io
