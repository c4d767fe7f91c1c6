// json.dumps().
#include <algorithm>
#include <cmath>

#include "bezel/error.h"
#include "bezel/jinja/arguments.h"
#include "bezel/jinja/compare.h"
#include "bezel/jinja/filters.h"
#include "bezel/jinja/print.h"
#include "bezel/jinja/text.h"

namespace bezel::jinja {
namespace {

struct Style {
  bool ascii = false;
  std::optional<TracedText> indent{};
  TracedText item_separator{};
  TracedText key_separator{};
  bool sort_keys = false;
};

std::string hex_escape(std::uint32_t unit) {
  std::string out = "\\u";
  for (int i = 4; i-- > 0;) out += "0123456789abcdef"[unit >> (4 * i) & 15];
  return out;
}

std::string escaped_character(std::uint32_t code) {
  constexpr std::string_view kSpecial = "\"\\\n\r\t\f\b", kLetters = "\"\\nrtfb";
  const auto letter = code < 0x80 ? kSpecial.find(static_cast<char>(code)) : std::string_view::npos;
  if (letter != std::string_view::npos) return {'\\', kLetters[letter]};
  if (code < 0x10000) return hex_escape(code);
  return hex_escape(0xD800 + ((code - 0x10000) >> 10)) + hex_escape(0xDC00 + ((code - 0x10000) & 0x3FF));
}

class Writer {
 public:
  Writer(Runtime& runtime, const Style& style) : runtime_(runtime), style_(style) {}

  void write(const Value& value) {
    const Runtime::Nesting nesting(runtime_);
    runtime_.check_text(out_.size());
    switch (value.kind()) {
      case Kind::kString:
        return write_string(value.text());
      case Kind::kList:
      case Kind::kTuple:
        return write_list(value.items());
      case Kind::kDict:
        return write_dict(value.as<DictObject>());
      default:
        out_.append(scalar(value), value.origin().message < 0 ? runtime_.owner : value.origin());
    }
  }

  TracedText take() { return std::move(out_); }

 private:
  void literal(std::string_view text) { out_.append(text, runtime_.owner); }

  static std::string scalar(const Value& value) {
    if (value.is(Kind::kNone)) return "null";
    if (value.is(Kind::kBoolean)) return value.as_boolean() ? "true" : "false";
    if (value.is(Kind::kFloat) && std::isnan(value.as_real())) return "NaN";
    if (value.is(Kind::kFloat) && std::isinf(value.as_real())) return value.as_real() < 0 ? "-Infinity" : "Infinity";
    if (!value.is_number()) throw Error("tojson cannot write a value of type ", type_name(value));
    return repr(value);
  }

  void write_string(const TracedText& text) {
    literal("\"");
    const std::string_view bytes = text.bytes();
    std::size_t done = 0;
    for (std::size_t at = 0; at < bytes.size();) {
      const CodePoint point = code_point_at(bytes, at);
      if (point.value < 0x20 || point.value == '"' || point.value == '\\' || (style_.ascii && point.value >= 0x7F)) {
        const bool plain = point.value == 0x7F;
        out_.append(text, done, at);
        out_.append(plain ? "\x7f" : escaped_character(point.value), text.origin_at(at));
        done = at + point.bytes;
      }
      at += point.bytes;
    }
    out_.append(text, done, bytes.size());
    literal("\"");
  }

  void new_line() {
    if (!style_.indent) return;
    literal("\n");
    for (int i = 0; i < level_; ++i) out_.append(*style_.indent);
  }

  void write_list(const std::vector<Value>& items) {
    if (items.empty()) return literal("[]");
    literal("[");
    ++level_;
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_.append(style_.item_separator);
      new_line();
      write(items[i]);
    }
    --level_;
    new_line();
    literal("]");
  }

  void write_dict(const DictObject& dict) {
    if (dict.items().empty()) return literal("{}");
    std::vector<const DictObject::Item*> items;
    for (const DictObject::Item& item : dict.items()) items.push_back(&item);
    if (style_.sort_keys)
      std::stable_sort(items.begin(), items.end(),
                       [](const auto* a, const auto* b) { return less(a->first, b->first); });
    literal("{");
    ++level_;
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_.append(style_.item_separator);
      new_line();
      const Value& key = items[i]->first;
      write_string(key.is_string() ? key.text() : TracedText(scalar(key), runtime_.owner));
      out_.append(style_.key_separator);
      write(items[i]->second);
    }
    --level_;
    new_line();
    literal("}");
  }

  Runtime& runtime_;
  const Style& style_;
  TracedText out_;
  int level_ = 0;
};

std::optional<TracedText> indent_of(Runtime& runtime, const Bound& bound) {
  if (!bound.given(1)) return std::nullopt;
  if (bound[1].is_string()) return bound[1].text();
  const auto width = static_cast<std::size_t>(std::clamp<std::int64_t>(bound.integer(1), 0, 1000));
  return TracedText(std::string(width, ' '), runtime.owner);
}

}  // namespace

Value to_json(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("tojson", std::move(arguments), {"ensure_ascii", "indent", "separators", "sort_keys"}, 0);
  Style style;
  style.ascii = bound.has(0) && truth(bound[0]);
  style.indent = indent_of(runtime, bound);
  style.sort_keys = bound.has(3) && truth(bound[3]);
  style.item_separator = {style.indent ? "," : ", ", runtime.owner};
  style.key_separator = {": ", runtime.owner};
  if (bound.given(2)) {
    const std::vector<Value> separators = list_of(runtime, bound[2]);
    if (separators.size() != 2 || !separators[0].is_string() || !separators[1].is_string())
      throw Error("tojson(): separators are two strings");
    style.item_separator = separators[0].text();
    style.key_separator = separators[1].text();
  }
  runtime.spend(value.weight());
  Writer writer(runtime, style);
  writer.write(value);
  return runtime.string(writer.take());
}

}  // namespace bezel::jinja
