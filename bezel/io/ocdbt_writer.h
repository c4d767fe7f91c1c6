#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>

namespace bezel::io {

/// Writes a key-value store in the form of OCDBT: one version, one node, values of up to 1 KiB in that node, larger
/// ones in data files. Ocdbt is the reader.
/// Reference: https://google.github.io/tensorstore/kvstore/ocdbt/index.html#storage-format
class OcdbtWriter {
 public:
  /// `folder` is there and has no store.
  explicit OcdbtWriter(std::string folder);

  using Append = std::function<void(std::span<const std::byte> bytes)>;
  /// Adds a value whose bytes `fill` appends. It is collected in memory where `expected_bytes` is small, else streamed
  /// into a file of its own. Throws Error (kIo) when writing fails, std::logic_error for a key that is there.
  void put(const std::string& key, std::size_t expected_bytes, const std::function<void(const Append&)>& fill);
  void put(const std::string& key, std::string_view value);

  /// Writes the node and the manifest. Nothing may be put afterwards.
  void finish();

 private:
  struct Value {
    std::string bytes{};  ///< of an inline value
    bool outside = false;
    std::size_t file = 0;
    std::uint64_t offset_bytes = 0, length_bytes = 0;
  };

  void add(const std::string& key, Value value);
  void add_collected(const std::string& key, std::string bytes);
  void flush();
  std::string path_of(std::size_t file) const;
  std::string node() const;

  std::string folder_;
  std::map<std::string, Value> values_;
  std::string collected_;      ///< of the file collected_file_, not yet written
  std::size_t num_files_ = 0;  ///< data files that have a number
  std::size_t collected_file_ = 0;
};

}  // namespace bezel::io
