#include "bezel/io/ocdbt.h"

#include <algorithm>
#include <filesystem>
#include <vector>

#include "bezel/error.h"
#include "bezel/io/ocdbt_block.h"

namespace bezel::io {
namespace {

constexpr std::uint64_t kMaxManifestBytes = std::uint64_t{64} << 20;
constexpr std::uint64_t kMaxKeys = std::uint64_t{1} << 20;
constexpr std::uint64_t kMaxNodes = std::uint64_t{1} << 17;
constexpr std::uint8_t kMaxHeight = 16;

/// A file that a block refers to.
struct DataFile {
  std::string path;  ///< below the store's folder
  std::string base;  ///< what paths in a node of this file are relative to
};

/// The place of a node, and what is known about it.
struct NodeRef {
  DataFile file{};
  std::uint64_t offset_bytes = 0;
  std::uint64_t length_bytes = 0;
  std::uint8_t height = 0;
  std::uint64_t num_keys = 0;
  std::string prefix{};  ///< of all keys in it
};

void check_path(const BlockReader& reader, const std::string& path) {
  const std::filesystem::path parts(path);
  const bool leads_up = std::ranges::any_of(parts, [](const auto& part) { return part == ".."; });
  if (path.empty() || parts.is_absolute() || leads_up || path.find('\0') != std::string::npos)
    throw Error(reader.where(), ": data file '", path, "' is not a path below the checkpoint's folder");
}

std::vector<DataFile> read_files(BlockReader& reader, const std::string& base) {
  const std::uint64_t count = reader.count();
  const auto prefixes = reader.varints(count == 0 ? 0 : count - 1);
  const auto lengths = reader.varints(count), base_lengths = reader.varints(count);
  std::vector<DataFile> files;
  const std::vector<std::string> paths = reader.prefixed_texts(prefixes, lengths);
  for (std::size_t i = 0; i < paths.size(); ++i) {
    if (base_lengths[i] > paths[i].size()) reader.fail("a base path is longer than its path");
    files.push_back({base + paths[i], base + paths[i].substr(0, base_lengths[i])});
    check_path(reader, files.back().path);
  }
  return files;
}

const DataFile& file_at(const BlockReader& reader, const std::vector<DataFile>& files, std::uint64_t idx) {
  if (idx >= files.size()) reader.fail("a data file has a number that the table does not have");
  return files[idx];
}

/// The newest version's root: the last inline one. Height 0 and length 0 for an empty store.
NodeRef read_manifest(const std::string& path) {
  const std::string block = OcdbtValue::of_file(path).text(kMaxManifestBytes);
  const std::string body = open_block(block, BlockKind::kManifest, path);
  BlockReader reader(body, path);
  reader.take(16);  // uuid
  if (const std::uint64_t kind = reader.varint(); kind != 0)
    throw Error(path, ": manifest kind ", kind, ", expected 0: a single manifest, as Orbax writes");
  reader.varint();  // largest inline value
  reader.varint();  // largest node
  reader.u8();      // arity of the version tree
  if (reader.varint() == 1) reader.u32();
  const auto files = read_files(reader, "");
  const std::uint64_t count = reader.count();
  if (count == 0) return {};
  reader.varints(count);  // generations
  const std::string_view heights = reader.take(count);
  const auto file_ids = reader.varints(count), offsets = reader.varints(count), lengths = reader.varints(count);
  const auto num_keys = reader.varints(count);
  if (lengths.back() == 0) return {};
  return {.file = file_at(reader, files, file_ids.back()),
          .offset_bytes = offsets.back(),
          .length_bytes = lengths.back(),
          .height = static_cast<std::uint8_t>(heights.back()),
          .num_keys = num_keys.back()};
}

/// A walk over the tree, in the order of the keys.
class Walk {
 public:
  Walk(std::string folder, Ocdbt::Values& values) : folder_(std::move(folder)), values_(values) {}

  void node(const NodeRef& ref) {
    const std::string path = folder_ + "/" + ref.file.path;
    const std::string where = path + ": node at byte " + std::to_string(ref.offset_bytes);
    if (++num_nodes_ > kMaxNodes) throw Error(where, ": more than ", kMaxNodes, " nodes");
    const std::string block = OcdbtValue(path, ref.offset_bytes, ref.length_bytes).text(kMaxBlockBytes);
    const std::string body = open_block(block, BlockKind::kTreeNode, where);
    BlockReader reader(body, where);
    if (reader.u8() != ref.height) reader.fail("the node's height is not the one its parent states");
    const auto files = read_files(reader, ref.file.base);
    const std::size_t before = values_.size();
    if (ref.height == 0)
      leaf(reader, files, ref.prefix);
    else
      interior(reader, files, ref);
    if (reader.left_bytes() != 0) reader.fail("bytes are left over in the node");
    if (values_.size() - before != ref.num_keys)
      throw Error(where, ": ", values_.size() - before, " keys, its parent states ", ref.num_keys);
  }

 private:
  void add(const BlockReader& reader, const std::string& key, OcdbtValue value) {
    if (!values_.empty() && key <= values_.rbegin()->first) reader.fail("keys are out of order");
    if (values_.size() >= kMaxKeys) reader.fail("too many keys");
    values_.emplace_hint(values_.end(), key, std::move(value));
  }

  void leaf(BlockReader& reader, const std::vector<DataFile>& files, const std::string& prefix) {
    const std::uint64_t count = reader.count();
    const auto prefixes = reader.varints(count == 0 ? 0 : count - 1);
    const auto suffixes = reader.varints(count);
    const std::vector<std::string> keys = reader.prefixed_texts(prefixes, suffixes);
    const auto lengths = reader.varints(count), kinds = reader.varints(count);
    if (std::ranges::any_of(kinds, [](std::uint64_t kind) { return kind > 1; }))
      reader.fail("a value is neither inline nor in a data file");
    const auto num_outside = static_cast<std::uint64_t>(std::ranges::count(kinds, 1u));
    const auto file_ids = reader.varints(num_outside), offsets = reader.varints(num_outside);
    for (std::size_t i = 0, outside = 0; i < count; ++i) {
      if (kinds[i] == 0) {
        add(reader, prefix + keys[i], OcdbtValue(std::string(reader.take(lengths[i]))));
        continue;
      }
      const DataFile& file = file_at(reader, files, file_ids[outside]);
      add(reader, prefix + keys[i], {folder_ + "/" + file.path, offsets[outside], lengths[i]});
      ++outside;
    }
  }

  void interior(BlockReader& reader, const std::vector<DataFile>& files, const NodeRef& ref) {
    const std::uint64_t count = reader.count();
    const auto prefixes = reader.varints(count == 0 ? 0 : count - 1);
    const auto suffixes = reader.varints(count), common = reader.varints(count);
    const std::vector<std::string> keys = reader.prefixed_texts(prefixes, suffixes);
    const auto file_ids = reader.varints(count), offsets = reader.varints(count), lengths = reader.varints(count);
    const auto num_keys = reader.varints(count);
    reader.varints(count);  // bytes of the tree
    reader.varints(count);  // bytes of values in data files
    for (std::size_t i = 0; i < count; ++i) {
      if (common[i] > keys[i].size()) reader.fail("a common prefix is longer than its key");
      node({.file = file_at(reader, files, file_ids[i]),
            .offset_bytes = offsets[i],
            .length_bytes = lengths[i],
            .height = static_cast<std::uint8_t>(ref.height - 1),
            .num_keys = num_keys[i],
            .prefix = ref.prefix + keys[i].substr(0, common[i])});
    }
  }

  std::string folder_;
  Ocdbt::Values& values_;
  std::uint64_t num_nodes_ = 0;
};

}  // namespace

Ocdbt Ocdbt::open(const std::string& folder) {
  Ocdbt store;
  const std::string path = folder + "/manifest.ocdbt";
  const NodeRef root = read_manifest(path);
  if (root.length_bytes == 0) return store;
  if (root.height > kMaxHeight)
    throw Error(path, ": a tree of height ", int{root.height}, ", expected at most ", int{kMaxHeight});
  Walk(folder, store.values_).node(root);
  return store;
}

const OcdbtValue* Ocdbt::find(std::string_view key) const {
  const auto place = values_.find(key);
  return place == values_.end() ? nullptr : &place->second;
}

}  // namespace bezel::io
