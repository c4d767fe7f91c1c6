#include "bezel/io/json.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <unordered_set>

#include <sys/stat.h>

#include "bezel/error.h"
#include "bezel/io/placeholder_file.h"

namespace bezel::io {
namespace {

// Big integers are values of JSON's binary type, which no text has, of this subtype.
constexpr std::uint8_t kBigInteger = 1;

std::string shortened(const Json& value) {
  const auto digits = big_integer(value);
  std::string text = digits ? *digits : value.dump(-1, ' ', true, Json::error_handler_t::replace);
  constexpr std::size_t kMax = 60;
  return text.size() <= kMax ? text : text.substr(0, kMax) + "…";
}

/// A value takes ten times the memory of its text when that is as short as "[],": four million of those, and beyond
/// them one for every 24 bytes, which is less than a step takes in a long run's history.
std::size_t most_values(std::size_t text_bytes) { return 4'000'000 + text_bytes / 24; }

/// Builds a document while checking what nlohmann's own parser lets pass: depth, duplicate keys, huge numbers.
class StrictBuilder {
 public:
  StrictBuilder(std::string_view source, const JsonLimits& limits, std::size_t max_values)
      : source_(source), limits_(limits), values_left_(max_values) {}

  Json take() { return std::move(root_); }

  bool null() { return add(nullptr); }
  bool boolean(bool v) { return add(v); }
  bool number_integer(std::int64_t v) { return add(v); }
  bool number_unsigned(std::uint64_t v) { return add(v); }
  bool number_float(double v, const std::string& text) {
    const bool is_whole = text.find_first_not_of("-0123456789") == std::string::npos;
    if (limits_.keeps_big_integers && is_whole) return add(Json::binary({text.begin(), text.end()}, kBigInteger));
    if (!std::isfinite(v)) throw Error(source_, ": the number ", text.substr(0, 40), " is too large");
    return add(v);
  }
  bool string(std::string& v) { return add(std::move(v)); }
  bool binary(Json::binary_t&) { return false; }
  bool start_object(std::size_t) { return open(Json::object()); }
  bool end_object() { return close(); }
  bool start_array(std::size_t) { return open(Json::array()); }
  bool end_array() { return close(); }

  bool key(std::string& name) {
    Level& level = levels_.back();
    if (is_taken(level, name)) throw Error(source_, ": key '", name, "' appears twice in one object");
    level.pending = std::move(name);
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& error) {
    std::string what = error.what();
    // "[json.exception.parse_error.101] parse error at line 1, column 2: ..." -> the part people can use.
    if (const auto start = what.find("] "); start != std::string::npos) what = what.substr(start + 2);
    throw Error(source_, ": not valid JSON at byte ", position, ": ", what);
  }

 private:
  using Members = Json::object_t::Container;

  struct Level {
    Json* value;
    std::unordered_set<std::string> keys;  // empty while the object is small
    std::string pending;
  };

  static Members& members_of(Level& level) { return static_cast<Members&>(level.value->get_ref<Json::object_t&>()); }

  /// Looks through the few members of a small object; a large one gets a hash set, lest this be quadratic.
  static bool is_taken(Level& level, const std::string& name) {
    constexpr std::size_t kSmall = 8;
    const Members& members = members_of(level);
    if (members.size() < kSmall)
      return std::any_of(members.begin(), members.end(), [&](const auto& member) { return member.first == name; });
    if (level.keys.empty())
      for (const auto& [key, value] : members) level.keys.insert(key);
    return !level.keys.insert(name).second;
  }

  /// A vector of pairs with const keys grows by copying whole values; this moves them.
  static void make_room(Members& members) {
    if (members.size() < members.capacity()) return;
    Members larger;
    larger.reserve(std::max<std::size_t>(4, 2 * members.size()));
    for (auto& [key, value] : members) larger.emplace_back(key, std::move(value));
    members.swap(larger);
  }

  Json* place(Json&& value) {
    if (values_left_-- == 0) throw Error(source_, ": more values than any such file has");
    if (levels_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Level& level = levels_.back();
    if (level.value->is_array()) {
      level.value->push_back(std::move(value));
      return &level.value->back();
    }
    // Appended without nlohmann's linear search: key() has already refused duplicates.
    Members& members = members_of(level);
    make_room(members);
    members.emplace_back(std::move(level.pending), std::move(value));
    return &members.back().second;
  }

  bool add(Json&& value) {
    place(std::move(value));
    return true;
  }

  bool open(Json&& value) {
    if (static_cast<int>(levels_.size()) >= limits_.max_depth)
      throw Error(source_, ": nested deeper than ", limits_.max_depth, " levels");
    levels_.push_back({place(std::move(value)), {}, {}});
    return true;
  }

  bool close() {
    levels_.pop_back();
    return true;
  }

  Json root_;
  std::string_view source_;
  const JsonLimits& limits_;
  std::size_t values_left_;
  std::vector<Level> levels_;
};

}  // namespace

Json parse_json(std::string_view text, std::string_view source, const JsonLimits& limits) {
  if (text.size() > limits.max_bytes)
    throw Error(source, ": ", text.size(), " bytes of JSON, at most ", limits.max_bytes, " are read");
  if (text.substr(0, 3) == "\xEF\xBB\xBF")
    throw Error(source, ": starts with a UTF-8 byte order mark; save it without one");
  if (const auto nul = text.find('\0'); nul != std::string_view::npos)
    throw Error(source, ": a NUL byte at offset ", nul, ", not JSON text");
  StrictBuilder builder(source, limits, most_values(text.size()));
  Json::sax_parse(text.begin(), text.end(), &builder, Json::input_format_t::json, /*strict=*/true);
  return builder.take();
}

std::optional<std::string> big_integer(const Json& value) {
  if (!value.is_binary() || value.get_binary().subtype() != kBigInteger) return std::nullopt;
  const Json::binary_t& digits = value.get_binary();
  return std::string(digits.begin(), digits.end());
}

std::string dump_json(const Json& value, std::string_view source) {
  if (const auto digits = big_integer(value)) return *digits;
  try {
    if (!value.is_structured()) return value.dump();
    std::string out(1, value.is_array() ? '[' : '{');
    for (const auto& item : value.items()) {
      if (out.size() > 1) out += ',';
      if (value.is_object()) out += Json(item.key()).dump() + ':';
      out += dump_json(item.value(), source);
    }
    return out + (value.is_array() ? ']' : '}');
  } catch (const Json::type_error&) {
    throw Error(source, ": not valid UTF-8");
  }
}

Json read_json_file(const std::string& path, const JsonLimits& limits) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) throw Error(ErrorKind::kIo, path, ": ", std::strerror(errno));
  if (!S_ISREG(info.st_mode)) throw Error(path, ": not a regular file");
  if (static_cast<std::uint64_t>(info.st_size) > limits.max_bytes)
    throw Error(path, ": ", info.st_size, " bytes of JSON, at most ", limits.max_bytes, " are read");
  std::string text(static_cast<std::size_t>(info.st_size), '\0');
  std::ifstream file(path, std::ios::binary);
  if (!file.read(text.data(), static_cast<std::streamsize>(text.size())))
    throw Error(ErrorKind::kIo, path, ": could not be read");
  refuse_placeholder(path, text);
  return parse_json(text, path, limits);
}

JsonView::JsonView(const Json& value, std::string source, std::string key)
    : value_(&value), source_(std::move(source)), key_(std::move(key)) {}

void JsonView::fail(std::string_view expected) const {
  if (key_.empty()) throw Error(source_, ": got ", shortened(*value_), ", expected ", expected);
  throw Error(source_, ": key '", key_, "': got ", shortened(*value_), ", expected ", expected);
}

std::optional<JsonView> JsonView::find(std::string_view name) const {
  if (!is_object()) fail("an object");
  for (const auto& [member, value] : value_->get_ref<const Json::object_t&>()) {
    if (member != name) continue;
    if (value.is_null()) return std::nullopt;
    return JsonView(value, source_, key_.empty() ? member : key_ + "." + member);
  }
  return std::nullopt;
}

JsonView JsonView::at(std::string_view name) const {
  if (!is_object()) fail("an object");
  for (const auto& [member, value] : value_->get_ref<const Json::object_t&>())
    if (member == name) return JsonView(value, source_, key_.empty() ? member : key_ + "." + member);
  throw Error(source_, ": key '", key_.empty() ? "" : key_ + ".", name, "' is missing");
}

std::vector<JsonView> JsonView::elements() const {
  if (!is_array()) fail("an array");
  std::vector<JsonView> out;
  out.reserve(value_->size());
  for (std::size_t i = 0; i < value_->size(); ++i)
    out.emplace_back((*value_)[i], source_, key_ + "[" + std::to_string(i) + "]");
  return out;
}

std::vector<std::pair<std::string, JsonView>> JsonView::members() const {
  if (!is_object()) fail("an object");
  std::vector<std::pair<std::string, JsonView>> out;
  for (const auto& [member, value] : value_->get_ref<const Json::object_t&>())
    out.emplace_back(member, JsonView(value, source_, key_.empty() ? member : key_ + "." + member));
  return out;
}

std::int64_t JsonView::whole(std::int64_t min, std::int64_t max) const {
  const auto wanted = [&] {
    std::string text = "a whole number of at least " + std::to_string(min);
    if (max != std::numeric_limits<std::int64_t>::max()) text += " and at most " + std::to_string(max);
    return text;
  };
  if (!value_->is_number_integer()) fail(wanted());
  if (value_->is_number_unsigned() &&
      value_->get<std::uint64_t>() > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
    fail(wanted());
  const auto v = value_->get<std::int64_t>();
  if (v < min || v > max) fail(wanted());
  return v;
}

double JsonView::number() const {
  if (const auto digits = big_integer(*value_)) return std::strtod(digits->c_str(), nullptr);
  if (!value_->is_number()) fail("a number");
  return value_->get<double>();
}

bool JsonView::boolean() const {
  if (!value_->is_boolean()) fail("true or false");
  return value_->get<bool>();
}

std::string JsonView::text() const {
  if (!value_->is_string()) fail("a string");
  return value_->get<std::string>();
}

}  // namespace bezel::io
