#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace bezel::io {

/// Types of metadata values; numbers are those of the file.
enum class GgufKind : std::uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64,
};

/// Bytes of one value; 0 for texts and lists, which say their own length.
std::size_t gguf_kind_bytes(GgufKind kind);

/// A value of a GGUF file's metadata, in place in the mapped file; valid while the file is open. Every getter throws
/// Error naming file and key when the value is something else.
class GgufValue {
 public:
  GgufValue(std::string source, std::string key, GgufKind kind, const std::byte* data, std::uint64_t count)
      : source_(std::move(source)), key_(std::move(key)), kind_(kind), data_(data), count_(count) {}

  const std::string& key() const { return key_; }
  bool is_array() const { return count_ != kNoArray; }
  bool is_text() const { return !is_array() && kind_ == GgufKind::kString; }
  GgufKind kind() const { return kind_; }  ///< of an array: of its elements
  /// The bytes of the value in the file; of an array its elements, without their number.
  std::string_view bytes() const;
  /// Elements of an array.
  std::size_t size() const;

  /// A whole number within [min, max], of any type that holds whole numbers.
  std::int64_t whole(std::int64_t min = 0, std::int64_t max = std::numeric_limits<std::int64_t>::max()) const;
  /// A finite floating or whole number.
  double number() const;
  bool boolean() const;
  std::string text() const;

  /// Elements of an array of whole numbers, each within [min, max].
  std::vector<std::int64_t> wholes(std::int64_t min = 0,
                                   std::int64_t max = std::numeric_limits<std::int64_t>::max()) const;
  std::vector<float> floats() const;  ///< all finite
  std::vector<bool> booleans() const;
  /// Views into the map.
  std::vector<std::string_view> texts() const;

  /// Throws Error: "<file>: key '<key>': got <value, shortened>, expected <expected>".
  [[noreturn]] void fail(std::string_view expected) const;

  static constexpr std::uint64_t kNoArray = std::numeric_limits<std::uint64_t>::max();

 private:
  void require_array(GgufKind kind, std::string_view expected) const;
  std::string described() const;

  std::string source_;
  std::string key_;
  GgufKind kind_;  ///< of an array: of its elements
  const std::byte* data_;
  std::uint64_t count_;  ///< kNoArray for a single value
};

}  // namespace bezel::io
