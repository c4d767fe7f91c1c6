#include "bezel/io/ocdbt_writer.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <random>
#include <stdexcept>
#include <utility>
#include <vector>

#include "bezel/io/atomic_write.h"
#include "bezel/io/ocdbt_block.h"

namespace bezel::io {
namespace {

constexpr std::size_t kMaxInlineBytes = 1024;
constexpr std::size_t kMaxCollectedBytes = std::size_t{4} << 20;  // of one value; larger ones are streamed
constexpr std::size_t kFileBytes = std::size_t{64} << 20;
constexpr std::uint64_t kMaxNodeBytes = 100'000'000;
constexpr char kArityLog2 = 4;  // of the version tree, which stays empty

template <typename Number>
std::string little_endian(Number value) {
  std::string bytes;
  for (std::size_t i = 0; i < sizeof value; ++i) bytes += static_cast<char>(value >> (8 * i) & 0xff);
  return bytes;
}

std::string varint(std::uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>((value & 0x7f) | 0x80);
  return bytes + static_cast<char>(value);
}

std::string block_of(BlockKind kind, const std::string& body) {
  constexpr std::size_t kHeaderBytes = 12, kChecksumBytes = 4;
  std::string block;
  for (int shift = 24; shift >= 0; shift -= 8)
    block += static_cast<char>(static_cast<std::uint32_t>(kind) >> shift & 0xff);
  const std::string inside = varint(0) + varint(0) + body;  // version, no compression
  block += little_endian<std::uint64_t>(kHeaderBytes + inside.size() + kChecksumBytes) + inside;
  return block + little_endian(crc32c(block));
}

/// Texts in order, each without what it shares with the one before: their lengths, then their bytes.
class PrefixedTexts {
 public:
  void add(const std::string& text) {
    const auto shared = std::ranges::mismatch(last_, text).in1 - last_.begin();
    if (!first_) prefixes_ += varint(static_cast<std::uint64_t>(shared));
    const std::size_t begin = first_ ? 0 : static_cast<std::size_t>(shared);
    lengths_ += varint(text.size() - begin);
    bytes_ += text.substr(begin);
    last_ = text;
    first_ = false;
  }
  std::string lengths() const { return prefixes_ + lengths_; }
  const std::string& bytes() const { return bytes_; }

 private:
  bool first_ = true;
  std::string last_, prefixes_, lengths_, bytes_;
};

/// A table of data files, whose paths are all relative to the store's folder.
std::string file_table(const std::vector<std::string>& paths) {
  PrefixedTexts texts;
  for (const std::string& path : paths) texts.add(path);
  return varint(paths.size()) + texts.lengths() + std::string(paths.size(), '\0') + texts.bytes();
}

std::string manifest(const std::string& file, std::uint64_t node_bytes, std::uint64_t num_keys,
                     std::uint64_t outside_bytes) {
  std::random_device random;
  std::string uuid;
  for (int i = 0; i < 4; ++i) uuid += little_endian(static_cast<std::uint32_t>(random()));
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto nanoseconds = std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
  return block_of(BlockKind::kManifest, uuid + varint(0) + varint(kMaxInlineBytes) + varint(kMaxNodeBytes) +
                                            kArityLog2 + varint(0) + file_table({file}) + varint(1) + varint(1) + '\0' +
                                            varint(0) + varint(0) + varint(node_bytes) + varint(num_keys) +
                                            varint(node_bytes) + varint(outside_bytes) +
                                            little_endian(static_cast<std::uint64_t>(nanoseconds)) + varint(0));
}

}  // namespace

OcdbtWriter::OcdbtWriter(std::string folder) : folder_(std::move(folder)) {
  std::filesystem::create_directory(folder_ + "/d");
}

std::string OcdbtWriter::path_of(std::size_t file) const {
  char name[40];
  std::snprintf(name, sizeof name, "d/%032zx", file);
  return name;
}

void OcdbtWriter::add(const std::string& key, Value value) {
  if (!values_.emplace(key, std::move(value)).second) throw std::logic_error("key '" + key + "' is there already");
}

void OcdbtWriter::put(const std::string& key, std::string_view value) { add_collected(key, std::string(value)); }

void OcdbtWriter::put(const std::string& key, std::size_t expected_bytes,
                      const std::function<void(const Append&)>& fill) {
  if (expected_bytes <= kMaxCollectedBytes) {
    std::string bytes;
    fill([&](std::span<const std::byte> piece) {
      bytes.append(reinterpret_cast<const char*>(piece.data()), piece.size());
    });
    return add_collected(key, std::move(bytes));
  }
  Value value{.outside = true, .file = num_files_++};
  write_file_atomically(folder_ + "/" + path_of(value.file), [&](FileSink& sink) {
    fill([&](std::span<const std::byte> piece) {
      sink.write(piece.data(), piece.size());
      value.length_bytes += piece.size();
    });
  });
  add(key, std::move(value));
}

void OcdbtWriter::add_collected(const std::string& key, std::string bytes) {
  if (bytes.size() <= kMaxInlineBytes) return add(key, {.bytes = std::move(bytes)});
  if (collected_.empty()) collected_file_ = num_files_++;
  add(key, {.outside = true, .file = collected_file_, .offset_bytes = collected_.size(), .length_bytes = bytes.size()});
  collected_ += bytes;
  if (collected_.size() >= kFileBytes) flush();
}

void OcdbtWriter::flush() {
  if (collected_.empty()) return;
  write_file_atomically(folder_ + "/" + path_of(collected_file_), collected_);
  collected_.clear();
}

std::string OcdbtWriter::node() const {
  std::vector<std::string> paths;
  for (std::size_t file = 0; file < num_files_; ++file) paths.push_back(path_of(file));
  PrefixedTexts keys;
  std::string lengths, kinds, files, offsets, inside;
  for (const auto& [key, value] : values_) {
    keys.add(key);
    lengths += varint(value.outside ? value.length_bytes : value.bytes.size());
    kinds += varint(value.outside ? 1 : 0);
    inside += value.bytes;
    if (!value.outside) continue;
    files += varint(value.file);
    offsets += varint(value.offset_bytes);
  }
  return block_of(BlockKind::kTreeNode, std::string(1, '\0') + file_table(paths) + varint(values_.size()) +
                                            keys.lengths() + keys.bytes() + lengths + kinds + files + offsets + inside);
}

void OcdbtWriter::finish() {
  flush();
  const std::string root = node();
  if (root.size() > kMaxNodeBytes) throw std::logic_error("too many keys for one node");
  std::uint64_t outside_bytes = 0;
  for (const auto& [key, value] : values_) outside_bytes += value.length_bytes;
  const std::string file = path_of(num_files_++);
  write_file_atomically(folder_ + "/" + file, root);
  write_file_atomically(folder_ + "/manifest.ocdbt", manifest(file, root.size(), values_.size(), outside_bytes));
}

}  // namespace bezel::io
