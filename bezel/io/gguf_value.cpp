#include "bezel/io/gguf_value.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <sstream>

#include "bezel/error.h"

namespace bezel::io {
namespace {

constexpr std::size_t kShownBytes = 40;

template <typename T>
T read(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

/// The whole number at `at`, or nothing when the type is not a whole number or it exceeds 63 bits.
std::optional<std::int64_t> whole_at(GgufKind kind, const std::byte* at) {
  switch (kind) {
    case GgufKind::kU8:
      return read<std::uint8_t>(at);
    case GgufKind::kI8:
      return read<std::int8_t>(at);
    case GgufKind::kU16:
      return read<std::uint16_t>(at);
    case GgufKind::kI16:
      return read<std::int16_t>(at);
    case GgufKind::kU32:
      return read<std::uint32_t>(at);
    case GgufKind::kI32:
      return read<std::int32_t>(at);
    case GgufKind::kI64:
      return read<std::int64_t>(at);
    case GgufKind::kU64:
      if (const auto value = read<std::uint64_t>(at); value <= std::numeric_limits<std::int64_t>::max())
        return static_cast<std::int64_t>(value);
      return std::nullopt;
    default:
      return std::nullopt;
  }
}

std::optional<double> number_at(GgufKind kind, const std::byte* at) {
  if (kind == GgufKind::kF32) return read<float>(at);
  if (kind == GgufKind::kF64) return read<double>(at);
  if (const auto whole = whole_at(kind, at)) return static_cast<double>(*whole);
  return std::nullopt;
}

std::string_view text_at(const std::byte* at) {
  return {reinterpret_cast<const char*>(at) + sizeof(std::uint64_t), static_cast<std::size_t>(read<std::uint64_t>(at))};
}

}  // namespace

std::size_t gguf_kind_bytes(GgufKind kind) {
  switch (kind) {
    case GgufKind::kU8:
    case GgufKind::kI8:
    case GgufKind::kBool:
      return 1;
    case GgufKind::kU16:
    case GgufKind::kI16:
      return 2;
    case GgufKind::kU32:
    case GgufKind::kI32:
    case GgufKind::kF32:
      return 4;
    case GgufKind::kU64:
    case GgufKind::kI64:
    case GgufKind::kF64:
      return 8;
    default:
      return 0;
  }
}

std::string GgufValue::described() const {
  if (is_array()) return "a list of " + std::to_string(count_);
  if (kind_ == GgufKind::kBool) return read<std::uint8_t>(data_) != 0 ? "true" : "false";
  if (kind_ == GgufKind::kString) {
    std::string shown(text_at(data_).substr(0, kShownBytes));
    for (char& c : shown)
      if (static_cast<unsigned char>(c) < ' ' || static_cast<unsigned char>(c) > '~') c = '?';
    return "'" + shown + (text_at(data_).size() > kShownBytes ? "…'" : "'");
  }
  if (kind_ == GgufKind::kU64) return std::to_string(read<std::uint64_t>(data_));
  std::ostringstream out;
  if (const auto whole = whole_at(kind_, data_))
    out << *whole;
  else
    out << number_at(kind_, data_).value_or(0.0);
  return out.str();
}

void GgufValue::fail(std::string_view expected) const {
  throw Error(source_, ": key '", key_, "': got ", described(), ", expected ", expected);
}

void GgufValue::require_array(GgufKind kind, std::string_view expected) const {
  if (!is_array() || kind_ != kind) fail(expected);
}

std::string_view GgufValue::bytes() const {
  const std::uint64_t count = is_array() ? count_ : 1;
  std::size_t size_bytes = static_cast<std::size_t>(count) * gguf_kind_bytes(kind_);
  if (kind_ == GgufKind::kString)
    for (std::uint64_t i = 0; i < count; ++i) size_bytes += sizeof(std::uint64_t) + text_at(data_ + size_bytes).size();
  return {reinterpret_cast<const char*>(data_), size_bytes};
}

std::size_t GgufValue::size() const {
  if (!is_array()) fail("a list");
  return static_cast<std::size_t>(count_);
}

std::int64_t GgufValue::whole(std::int64_t min, std::int64_t max) const {
  const auto value = is_array() ? std::nullopt : whole_at(kind_, data_);
  if (!value || *value < min || *value > max) {
    std::ostringstream expected;
    expected << "a whole number of at least " << min;
    if (max != std::numeric_limits<std::int64_t>::max()) expected << " and at most " << max;
    fail(expected.str());
  }
  return *value;
}

double GgufValue::number() const {
  const auto value = is_array() ? std::nullopt : number_at(kind_, data_);
  if (!value || !std::isfinite(*value)) fail("a number");
  return *value;
}

bool GgufValue::boolean() const {
  if (is_array() || kind_ != GgufKind::kBool) fail("true or false");
  return read<std::uint8_t>(data_) != 0;
}

std::string GgufValue::text() const {
  if (is_array() || kind_ != GgufKind::kString) fail("a text");
  return std::string(text_at(data_));
}

std::vector<std::int64_t> GgufValue::wholes(std::int64_t min, std::int64_t max) const {
  if (!is_array()) fail("a list of whole numbers");
  std::vector<std::int64_t> values;
  values.reserve(size());
  for (std::size_t i = 0; i < size(); ++i) {
    const auto value = whole_at(kind_, data_ + i * gguf_kind_bytes(kind_));
    if (!value || *value < min || *value > max)
      throw Error(source_, ": key '", key_, "': element ", i, " is not a whole number from ", min, " to ", max);
    values.push_back(*value);
  }
  return values;
}

std::vector<float> GgufValue::floats() const {
  require_array(GgufKind::kF32, "a list of 32-bit floating numbers");
  std::vector<float> values(size());
  std::memcpy(values.data(), data_, values.size() * sizeof(float));
  if (!std::ranges::all_of(values, [](float value) { return std::isfinite(value); })) fail("finite numbers only");
  return values;
}

std::vector<bool> GgufValue::booleans() const {
  require_array(GgufKind::kBool, "a list of true and false");
  std::vector<bool> values;
  for (std::size_t i = 0; i < size(); ++i) values.push_back(read<std::uint8_t>(data_ + i) != 0);
  return values;
}

std::vector<std::string_view> GgufValue::texts() const {
  require_array(GgufKind::kString, "a list of texts");
  std::vector<std::string_view> values;
  values.reserve(size());
  const std::byte* at = data_;
  for (std::size_t i = 0; i < size(); ++i) {
    values.push_back(text_at(at));
    at += sizeof(std::uint64_t) + values.back().size();
  }
  return values;
}

}  // namespace bezel::io
