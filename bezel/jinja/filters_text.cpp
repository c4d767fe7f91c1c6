// Filters of texts.
#include <algorithm>

#include "bezel/error.h"
#include "bezel/jinja/arguments.h"
#include "bezel/jinja/filters.h"
#include "bezel/jinja/format.h"
#include "bezel/jinja/letter_case.h"
#include "bezel/jinja/markup.h"
#include "bezel/jinja/methods.h"
#include "bezel/jinja/text.h"
#include "bezel/jinja/text_pieces.h"

namespace bezel::jinja {
namespace {

// A string as it is, with its mark of being safe; anything else as str() gives it.
Value as_string(Runtime& runtime, const Value& value) {
  return value.is_string() ? value : Value::string(runtime.text_of(value));
}

Value call_method(Runtime& runtime, const Value& value, const std::string& name, Arguments arguments) {
  return call(runtime, *find_string_method(as_string(runtime, value), name), std::move(arguments));
}

Value string_filter(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("string", std::move(arguments), {}, 0);
  return as_string(runtime, value);
}

Value trim_filter(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("trim", std::move(arguments), {"chars"}, 0);
  Arguments given;
  if (bound.has(0)) given.positional.push_back(bound[0]);
  return call_method(runtime, value, "strip", std::move(given));
}

Value upper_filter(Runtime& runtime, const Value& value, Arguments arguments) {
  return call_method(runtime, value, "upper", std::move(arguments));
}

Value lower_filter(Runtime& runtime, const Value& value, Arguments arguments) {
  return call_method(runtime, value, "lower", std::move(arguments));
}

Value capitalize_filter(Runtime& runtime, const Value& value, Arguments arguments) {
  return call_method(runtime, value, "capitalize", std::move(arguments));
}

bool begins_word(std::uint32_t code) {
  return is_space(code) || code == '-' || code == '(' || code == '{' || code == '[' || code == '<';
}

// The first character of each word in upper case, the rest in lower case.
Value title_filter(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("title", std::move(arguments), {}, 0);
  const Value whole = as_string(runtime, value);
  const TracedText& text = whole.text();
  TracedText out;
  for (std::size_t at = 0; at < text.size();) {
    const bool is_separator = begins_word(code_point_at(text.bytes(), at).value);
    std::size_t end = at, first = code_point_at(text.bytes(), at).bytes;
    while (end < text.size() && begins_word(code_point_at(text.bytes(), end).value) == is_separator)
      end += code_point_at(text.bytes(), end).bytes;
    out.append(to_upper(text.substr(at, at + first)));
    out.append(to_lower(text.substr(at + first, end)));
    at = end;
  }
  return runtime.string(std::move(out));
}

Value center_filter(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("center", std::move(arguments), {"width"}, 0);
  Arguments given;
  given.positional.push_back(bound.get(0, Value::integer(80)));
  return call_method(runtime, value, "center", std::move(given));
}

Value replace_filter(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("replace", std::move(arguments), {"old", "new", "count"}, 2);
  Arguments given;
  given.positional = {Value::string(runtime.text_of(bound[0])), Value::string(runtime.text_of(bound[1]))};
  if (bound.given(2)) given.positional.push_back(bound[2]);
  return call_method(runtime, Value::string(runtime.text_of(value)), "replace", std::move(given));
}

Value format_filter(Runtime& runtime, const Value& value, Arguments arguments) {
  if (!arguments.positional.empty() && !arguments.named.empty())
    throw Error("format() takes values or named values, not both");
  if (value.is_markup()) throw Error("formatting a text that is marked safe is not supported");
  auto named = std::make_shared<DictObject>();
  for (auto& [name, given] : arguments.named) named->set(Value::string({name, {}}), std::move(given));
  const Value values = arguments.named.empty() ? Value::tuple(std::move(arguments.positional))
                                               : Value::of(Kind::kDict, std::move(named));
  return runtime.string(format_percent(runtime, runtime.text_of(value), values));
}

Value escape_filter(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("escape", std::move(arguments), {}, 0);
  return runtime.string(escaped(runtime, value), true);
}

Value forceescape_filter(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("forceescape", std::move(arguments), {}, 0);
  return runtime.string(escaped(runtime, Value::string(runtime.text_of(value))), true);
}

Value safe_filter(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("safe", std::move(arguments), {}, 0);
  return runtime.string(runtime.text_of(value), true);
}

Value indent_filter(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("indent", std::move(arguments), {"width", "first", "blank"}, 0);
  if (!value.is_string()) throw Error("indent needs a string, got a ", type_name(value));
  TracedText indent;
  if (bound.has(0) && bound[0].is_string()) {
    indent = bound[0].text();
  } else {
    const std::int64_t width = bound.has(0) ? bound.integer(0) : 4;
    runtime.spend_repeated(static_cast<std::size_t>(std::max<std::int64_t>(0, width)), 1);
    indent.append(std::string(static_cast<std::size_t>(std::max<std::int64_t>(0, width)), ' '), runtime.owner);
  }
  TracedText text = value.text();
  text.append("\n", runtime.owner);
  const std::vector<TracedText> lines = split_lines(text, false);
  runtime.spend_repeated(lines.size(), indent.size() + 1);
  TracedText out;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out.append("\n", runtime.owner);
    const bool indents = i == 0 ? bound.flag(1) : bound.flag(2) || !lines[i].empty();
    if (indents) out.append(indent);
    out.append(lines[i]);
  }
  return runtime.string(std::move(out), value.is_markup());
}

Value truncate_filter(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("truncate", std::move(arguments), {"length", "killwords", "end", "leeway"}, 0);
  const TracedText end = bound.has(2) ? bound.text(2) : TracedText("...", runtime.owner);
  const auto end_length = static_cast<std::int64_t>(characters_of(end.bytes()));
  const std::int64_t length = bound.has(0) ? bound.integer(0) : 255;
  const std::int64_t leeway = bound.given(3) ? bound.integer(3) : 5;
  if (length < end_length || leeway < 0) throw Error("truncate needs a length of at least ", end_length);
  if (static_cast<std::int64_t>(length_of(value)) <= length + leeway) return value;
  if (!value.is_string()) throw Error("truncate needs a string, got a ", type_name(value));
  TracedText out = value.text().substr(0, offset_of(value.bytes(), static_cast<std::size_t>(length - end_length)));
  if (!bound.flag(1)) out = rsplit_text(out, " ", 1)[0];
  out.append(end);
  return runtime.string(std::move(out), value.is_markup());
}

Value wordcount_filter(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("wordcount", std::move(arguments), {}, 0);
  const TracedText text = runtime.text_of(value);
  std::int64_t words = 0;
  bool inside = false;
  for (const char c : text.bytes()) {
    if (static_cast<unsigned char>(c) >= 0x80) throw Error("wordcount is not supported for characters beyond ASCII");
    const bool is_word = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
    words += is_word && !inside ? 1 : 0;
    inside = is_word;
  }
  return Value::integer(words);
}

constexpr Filter kTextFilters[] = {
    {"string", string_filter},     {"trim", trim_filter},
    {"upper", upper_filter},       {"lower", lower_filter},
    {"title", title_filter},       {"capitalize", capitalize_filter},
    {"center", center_filter},     {"format", format_filter},
    {"replace", replace_filter},   {"e", escape_filter},
    {"escape", escape_filter},     {"forceescape", forceescape_filter},
    {"safe", safe_filter},         {"indent", indent_filter},
    {"truncate", truncate_filter}, {"wordcount", wordcount_filter},
};

}  // namespace

std::span<const Filter> text_filters() { return kTextFilters; }

}  // namespace bezel::jinja
