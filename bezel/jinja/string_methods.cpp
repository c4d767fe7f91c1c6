// The methods of str.
#include <algorithm>
#include <string_view>

#include "bezel/error.h"
#include "bezel/jinja/arguments.h"
#include "bezel/jinja/format.h"
#include "bezel/jinja/letter_case.h"
#include "bezel/jinja/markup.h"
#include "bezel/jinja/methods.h"
#include "bezel/jinja/runtime.h"
#include "bezel/jinja/text.h"
#include "bezel/jinja/text_pieces.h"

namespace bezel::jinja {
namespace {

struct Call {
  Runtime& runtime;
  const Value& self;
  std::string_view name;
  Arguments arguments;

  const TracedText& text() const { return self.text(); }
  Bound bind(std::vector<std::string_view> parameters, std::size_t required) {
    return {name, std::move(arguments), std::move(parameters), required};
  }
  Value result(TracedText out) const { return runtime.string(std::move(out), self.is_markup()); }
  Value list(std::vector<TracedText> texts) const {
    std::vector<Value> out;
    for (TracedText& text : texts) out.push_back(result(std::move(text)));
    return Value::list(std::move(out));
  }
};

std::optional<std::string_view> optional_text(const Bound& bound, std::size_t i) {
  if (!bound.given(i)) return std::nullopt;
  return bound.text(i).bytes();
}

Value strip(Call& call) {
  const Bound bound = call.bind({"chars"}, 0);
  const Side side = call.name == "strip" ? Side::kBoth : call.name == "lstrip" ? Side::kLeft : Side::kRight;
  return call.result(stripped(call.text(), side, optional_text(bound, 0)));
}

Value split(Call& call) {
  const Bound bound = call.bind({"sep", "maxsplit"}, 0);
  const auto separator = optional_text(bound, 0);
  if (separator && separator->empty()) throw Error(call.name, "(): the separator is empty");
  const std::int64_t most = bound.has(1) ? bound.integer(1) : -1;
  return call.list((call.name == "split" ? split_text : rsplit_text)(call.text(), separator, most));
}

Value split_line_ends(Call& call) {
  const Bound bound = call.bind({"keepends"}, 0);
  return call.list(split_lines(call.text(), bound.has(0) && bound.integer(0) != 0));
}

Value partition(Call& call) {
  const Bound bound = call.bind({"sep"}, 1);
  const TracedText& separator = bound.text(0);
  if (separator.empty()) throw Error(call.name, "(): the separator is empty");
  const bool from_left = call.name == "partition";
  const TracedText& text = call.text();
  const std::size_t hit = from_left ? text.bytes().find(separator.bytes()) : text.bytes().rfind(separator.bytes());
  std::vector<TracedText> parts(3);
  if (hit == std::string::npos) {
    parts[from_left ? 0 : 2] = text;
  } else {
    parts = {text.substr(0, hit), separator, text.substr(hit + separator.size(), text.size())};
  }
  std::vector<Value> out;
  for (TracedText& part : parts) out.push_back(call.result(std::move(part)));
  return Value::tuple(std::move(out));
}

Value change_case(Call& call) {
  call.bind({}, 0);
  const TracedText& text = call.text();
  if (call.name == "upper") return call.result(to_upper(text));
  if (call.name == "lower") return call.result(to_lower(text));
  if (call.name == "title") return call.result(to_title(text));
  return call.result(call.name == "capitalize" ? capitalized(text) : swapped_case(text));
}

// Whether the text begins or ends with one of the given texts.
Value has_end(Call& call) {
  const Bound bound = call.bind({"prefix", "start", "end"}, 1);
  if (bound.has(1)) throw Error(call.name, "() with a start is not supported: slice the text first");
  const std::string_view text = call.text().bytes();
  const auto fits = [&](const Value& part) {
    if (!part.is_string()) throw Error(call.name, "(): expected a string, got a ", type_name(part));
    return call.name == "startswith" ? text.starts_with(part.bytes()) : text.ends_with(part.bytes());
  };
  if (!bound[0].is(Kind::kTuple)) return Value::boolean(fits(bound[0]));
  return Value::boolean(std::any_of(bound[0].items().begin(), bound[0].items().end(), fits));
}

// The part of the text from `start` to `end` in characters, as offsets.
std::pair<std::size_t, std::size_t> range_of(const Bound& bound, std::string_view text) {
  const auto length = static_cast<std::int64_t>(characters_of(text));
  const auto place = [&](std::size_t i, std::int64_t otherwise) {
    std::int64_t at = bound.given(i) ? bound.integer(i) : otherwise;
    if (at < 0) at = std::max<std::int64_t>(0, at + length);
    return at > length ? std::string_view::npos : offset_of(text, static_cast<std::size_t>(at));
  };
  const std::size_t end = place(2, length);
  return {place(1, 0), std::min(end, text.size())};
}

Value find(Call& call) {
  const Bound bound = call.bind({"sub", "start", "end"}, 1);
  const std::string_view text = call.text().bytes();
  const std::string& part = bound.text(0).bytes();
  const auto [begin, end] = range_of(bound, text);
  const bool backwards = call.name.starts_with("r");
  std::size_t hit = std::string_view::npos;
  if (begin <= end) {
    const std::string_view inside = text.substr(0, end);
    hit = backwards ? inside.rfind(part) : inside.find(part, begin);
    if (backwards && hit < begin) hit = std::string_view::npos;
  }
  if (hit != std::string_view::npos)
    return Value::integer(static_cast<std::int64_t>(characters_of(text.substr(0, hit))));
  if (call.name.ends_with("index")) throw Error(call.name, "(): '", part, "' is not in the text");
  return Value::integer(-1);
}

Value count(Call& call) {
  const Bound bound = call.bind({"sub", "start", "end"}, 1);
  const auto [begin, end] = range_of(bound, call.text().bytes());
  if (begin > end) return Value::integer(0);
  const std::string_view inside = std::string_view(call.text().bytes()).substr(begin, end - begin);
  return Value::integer(static_cast<std::int64_t>(count_of(inside, bound.text(0).bytes())));
}

Value replace(Call& call) {
  const Bound bound = call.bind({"old", "new", "count"}, 2);
  const TracedText& from = bound.text(0);
  bound.text(1);
  const TracedText to = call.self.is_markup() ? escaped(call.runtime, bound[1]) : bound.text(1);
  call.runtime.spend_repeated(count_of(call.text().bytes(), from.bytes()), to.size());
  return call.result(replaced(call.text(), from.bytes(), to, bound.has(2) ? bound.integer(2) : -1));
}

Value remove_end(Call& call) {
  const Bound bound = call.bind({"prefix"}, 1);
  const TracedText& text = call.text();
  const std::string& part = bound.text(0).bytes();
  if (call.name == "removeprefix")
    return call.result(text.substr(text.bytes().starts_with(part) ? part.size() : 0, text.size()));
  return call.result(text.substr(0, text.size() - (text.bytes().ends_with(part) ? part.size() : 0)));
}

Value join(Call& call) {
  const Bound bound = call.bind({"iterable"}, 1);
  TracedText out;
  bool first = true;
  const auto next = iterate(call.runtime, bound[0]);
  while (const std::optional<Value> item = next()) {
    if (!item->is_string()) throw Error("join(): expected strings, got a ", type_name(*item));
    if (!first) out.append(call.text());
    first = false;
    out.append(call.self.is_markup() ? escaped(call.runtime, *item) : item->text());
    call.runtime.spend_text(item->text().size() + call.text().size());
  }
  return call.result(std::move(out));
}

Value pad(Call& call) {
  const Bound bound = call.bind({"width", "fillchar"}, 1);
  const TracedText& text = call.text();
  const auto length = static_cast<std::int64_t>(characters_of(text.bytes()));
  const TracedText fill = bound.has(1) ? bound.text(1) : TracedText(" ", call.runtime.owner);
  if (characters_of(fill.bytes()) != 1) throw Error(call.name, "(): the fill is not one character");
  const std::int64_t missing = std::max<std::int64_t>(0, bound.integer(0) - length);
  call.runtime.spend_repeated(static_cast<std::size_t>(missing), fill.size());
  // Python puts the odd blank of center() on the left where the width is odd.
  const std::int64_t left = call.name == "rjust"   ? missing
                            : call.name == "ljust" ? 0
                                                   : missing / 2 + (missing & bound.integer(0) & 1);
  TracedText out;
  for (std::int64_t i = 0; i < left; ++i) out.append(fill);
  out.append(text);
  for (std::int64_t i = left; i < missing; ++i) out.append(fill);
  return call.result(std::move(out));
}

Value zfill(Call& call) {
  const Bound bound = call.bind({"width"}, 1);
  const TracedText& text = call.text();
  const bool sign = text.bytes().starts_with("-") || text.bytes().starts_with("+");
  const std::int64_t missing = bound.integer(0) - static_cast<std::int64_t>(characters_of(text.bytes()));
  if (missing <= 0) return call.result(text);
  call.runtime.spend_repeated(static_cast<std::size_t>(missing), 1);
  TracedText out = text.substr(0, sign ? 1 : 0);
  out.append(std::string(static_cast<std::size_t>(missing), '0'), call.runtime.owner);
  out.append(text, sign ? 1 : 0, text.size());
  return call.result(std::move(out));
}

bool is_class_member(std::string_view name, char c) {
  const bool digit = c >= '0' && c <= '9', upper = c >= 'A' && c <= 'Z', lower = c >= 'a' && c <= 'z';
  if (name == "isalpha") return upper || lower;
  return name == "isalnum" ? digit || upper || lower : digit;
}

Value is_class(Call& call) {
  call.bind({}, 0);
  const std::string& text = call.text().bytes();
  if (call.name == "isupper") return Value::boolean(is_upper(text));
  if (call.name == "islower") return Value::boolean(is_lower(text));
  if (call.name == "isspace") return Value::boolean(!text.empty() && skip_space(text, 0) == text.size());
  const bool ascii = std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
  if (call.name == "isascii") return Value::boolean(ascii);
  if (!ascii) throw Error(call.name, "() is not supported for characters beyond ASCII");
  return Value::boolean(!text.empty() &&
                        std::all_of(text.begin(), text.end(), [&](char c) { return is_class_member(call.name, c); }));
}

Value format(Call& call) {
  if (call.self.is_markup()) throw Error("format() of a text that is marked safe is not supported");
  return call.runtime.string(format_braces(call.runtime, call.text(), call.arguments));
}

struct Method {
  std::string_view name;
  Value (*function)(Call&);
};

constexpr Method kMethods[] = {
    {"strip", strip},
    {"lstrip", strip},
    {"rstrip", strip},
    {"split", split},
    {"rsplit", split},
    {"splitlines", split_line_ends},
    {"partition", partition},
    {"rpartition", partition},
    {"upper", change_case},
    {"lower", change_case},
    {"title", change_case},
    {"capitalize", change_case},
    {"swapcase", change_case},
    {"startswith", has_end},
    {"endswith", has_end},
    {"find", find},
    {"rfind", find},
    {"index", find},
    {"rindex", find},
    {"count", count},
    {"replace", replace},
    {"removeprefix", remove_end},
    {"removesuffix", remove_end},
    {"join", join},
    {"center", pad},
    {"ljust", pad},
    {"rjust", pad},
    {"zfill", zfill},
    {"isdigit", is_class},
    {"isdecimal", is_class},
    {"isnumeric", is_class},
    {"isalpha", is_class},
    {"isalnum", is_class},
    {"isspace", is_class},
    {"isupper", is_class},
    {"islower", is_class},
    {"isascii", is_class},
    {"format", format},
};

constexpr std::string_view kUnsupported[] = {"casefold",    "encode",  "expandtabs", "format_map", "isidentifier",
                                             "isprintable", "istitle", "maketrans",  "translate"};

}  // namespace

std::optional<Value> find_string_method(const Value& value, const std::string& name) {
  const auto method =
      std::find_if(std::begin(kMethods), std::end(kMethods), [&](const Method& known) { return known.name == name; });
  if (method == std::end(kMethods)) {
    if (std::find(std::begin(kUnsupported), std::end(kUnsupported), name) != std::end(kUnsupported))
      throw Error("the method .", name, "() of a string is not supported");
    return std::nullopt;
  }
  return callable(name, [value, method](Runtime& runtime, Arguments arguments) {
    runtime.spend_text(value.bytes().size());
    Call call{runtime, value, method->name, std::move(arguments)};
    return method->function(call);
  });
}

}  // namespace bezel::jinja
