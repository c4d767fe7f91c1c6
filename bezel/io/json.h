#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace bezel::io {

/// Parsed JSON; objects keep the order in which their keys were written.
using Json = nlohmann::ordered_json;

/// Bounds on what a parser accepts.
struct JsonLimits {
  std::size_t max_bytes = 16u << 20;
  int max_depth = 64;
  bool keeps_big_integers =
      false;  ///< whole numbers beyond 64 bits keep their digits (big_integer) and become no double; up to 308 digits
};

/// Parses `text` as one JSON value. `source` names it in errors (a path, or path:line).
/// Throws Error on: more than `max_bytes`, deeper nesting than `max_depth`, invalid UTF-8, a NUL byte, a duplicate key,
/// a number that no double or 64-bit integer holds, or anything after the value. A leading UTF-8 BOM is refused.
Json parse_json(std::string_view text, std::string_view source, const JsonLimits& limits = {});

/// Digits, with the sign, of a whole number that JsonLimits::keeps_big_integers has kept; nothing for other values.
std::optional<std::string> big_integer(const Json& value);

/// The text of a value without blanks, with the digits of big integers. Throws Error starting with `source` on text
/// that is not UTF-8.
std::string dump_json(const Json& value, std::string_view source);

/// Reads a regular file and parses it; throws Error (kIo) when it cannot be read.
Json read_json_file(const std::string& path, const JsonLimits& limits = {});

/// A JSON value together with the place it came from, so that every error names file and key.
/// Borrows the value: it must outlive the view.
class JsonView {
 public:
  JsonView(const Json& value, std::string source, std::string key = "");

  const Json& value() const { return *value_; }
  const std::string& source() const { return source_; }
  /// Dotted path of this value inside the file, such as "text_config.head_dim"; "" at the top.
  const std::string& key() const { return key_; }

  bool is_null() const { return value_->is_null(); }
  bool is_object() const { return value_->is_object(); }
  bool is_array() const { return value_->is_array(); }
  bool is_string() const { return value_->is_string(); }
  bool is_number() const { return value_->is_number(); }

  /// Member `name` of an object; throws when this is no object or the member is missing.
  JsonView at(std::string_view name) const;
  /// Member `name`, or nothing when it is missing or null; throws when this is no object.
  std::optional<JsonView> find(std::string_view name) const;
  /// Elements of an array; throws when this is not an array.
  std::vector<JsonView> elements() const;
  /// Members of an object in written order; throws when this is not an object.
  std::vector<std::pair<std::string, JsonView>> members() const;

  /// A whole number within [min, max]. 2.0, 1e3, -1 where min is 0, and 2^64 are refused, never converted.
  std::int64_t whole(std::int64_t min = 0, std::int64_t max = std::numeric_limits<std::int64_t>::max()) const;
  /// A finite number, written as integer or real.
  double number() const;
  bool boolean() const;
  std::string text() const;

  /// Throws Error: "<source>: key '<key>': got <value, shortened>, expected <expected>".
  [[noreturn]] void fail(std::string_view expected) const;

 private:
  const Json* value_;
  std::string source_;
  std::string key_;
};

}  // namespace bezel::io
