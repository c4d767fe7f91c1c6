#include "bezel/jinja/letter_case.h"

#include <algorithm>
#include <span>

#include "bezel/jinja/text.h"
#include "bezel/jinja/unicode_tables.h"

namespace bezel::jinja {
namespace {

constexpr std::uint32_t kSigma = 0x3A3, kFinalSigma = 0x3C2, kSmallSigma = 0x3C3, kDottedI = 0x130;

template <typename Run>
const Run* find_run(std::span<const Run> table, std::uint32_t code) {
  auto run = std::upper_bound(table.begin(), table.end(), code,
                              [](std::uint32_t value, const Run& candidate) { return value < candidate.first; });
  // Runs with a stride overlap their neighbors.
  for (int tries = 0; tries < 4 && run != table.begin(); ++tries) {
    --run;
    if (code <= run->last && (code - run->first) % run->stride == 0) return &*run;
  }
  return nullptr;
}

bool is_in(std::span<const CodeRun> table, std::uint32_t code) { return find_run(table, code) != nullptr; }

const SpecialCase* find_special(std::span<const SpecialCase> table, std::uint32_t code) {
  const auto found =
      std::lower_bound(table.begin(), table.end(), code,
                       [](const SpecialCase& special, std::uint32_t value) { return special.code < value; });
  return found != table.end() && found->code == code ? &*found : nullptr;
}

bool is_cased(std::uint32_t code) {
  return is_in(lowercase_table(), code) || is_in(uppercase_table(), code) || is_in(titlecase_table(), code);
}

std::string mapped(std::span<const CaseRun> table, std::uint32_t code) {
  const CaseRun* run = find_run(table, code);
  std::string out;
  append_utf8(out, run == nullptr ? code : code + static_cast<std::uint32_t>(run->delta));
  return out;
}

std::string upper_of(std::uint32_t code) {
  const SpecialCase* special = find_special(special_upper_table(), code);
  return special != nullptr ? std::string(special->text) : mapped(to_upper_table(), code);
}

std::string title_of(std::uint32_t code) {
  const SpecialCase* special = find_special(special_title_table(), code);
  return special != nullptr ? std::string(special->text) : upper_of(code);
}

std::size_t start_of_previous(std::string_view text, std::size_t at) {
  do --at;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80);
  return at;
}

// Whether the sigma at `at` ends a word: a cased letter before it, and none after it.
bool ends_word(std::string_view text, std::size_t at) {
  bool cased = false;
  for (std::size_t i = at; i > 0 && !cased;) {
    i = start_of_previous(text, i);
    const std::uint32_t code = code_point_at(text, i).value;
    cased = is_cased(code) && !is_in(ignorable_table(), code);
    if (!cased && !is_in(ignorable_table(), code)) return false;
  }
  if (!cased) return false;
  for (std::size_t i = at + code_point_at(text, at).bytes; i < text.size(); i += code_point_at(text, i).bytes) {
    const std::uint32_t code = code_point_at(text, i).value;
    if (!is_in(ignorable_table(), code)) return !is_cased(code);
  }
  return true;
}

std::string lower_of(std::string_view text, std::size_t at, std::uint32_t code) {
  std::string out;
  if (code == kDottedI) {
    append_utf8(out, 'i');
    append_utf8(out, 0x307);
  } else if (code == kSigma) {
    append_utf8(out, ends_word(text, at) ? kFinalSigma : kSmallSigma);
  } else {
    out = mapped(to_lower_table(), code);
  }
  return out;
}

// Calls convert(offset, code) for each character and joins what it gives.
template <typename Convert>
TracedText convert_each(const TracedText& text, Convert convert) {
  TracedText out;
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint point = code_point_at(text.bytes(), at);
    out.append(convert(at, point.value), text.origin_at(at));
    at += point.bytes;
  }
  return out;
}

bool has_case(std::string_view text, bool upper) {
  bool found = false;
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint point = code_point_at(text, at);
    const bool is_wanted = is_in(upper ? uppercase_table() : lowercase_table(), point.value);
    if (!is_wanted && is_cased(point.value)) return false;
    found = found || is_wanted;
    at += point.bytes;
  }
  return found;
}

}  // namespace

TracedText to_upper(const TracedText& text) {
  return convert_each(text, [](std::size_t, std::uint32_t code) { return upper_of(code); });
}

TracedText to_lower(const TracedText& text) {
  return convert_each(text, [&](std::size_t at, std::uint32_t code) { return lower_of(text.bytes(), at, code); });
}

TracedText to_title(const TracedText& text) {
  bool inside = false;
  return convert_each(text, [&](std::size_t at, std::uint32_t code) {
    const bool first = !inside;
    inside = is_cased(code);
    return first ? title_of(code) : lower_of(text.bytes(), at, code);
  });
}

TracedText capitalized(const TracedText& text) {
  return convert_each(text, [&](std::size_t at, std::uint32_t code) {
    return at == 0 ? title_of(code) : lower_of(text.bytes(), at, code);
  });
}

TracedText swapped_case(const TracedText& text) {
  return convert_each(text, [&](std::size_t at, std::uint32_t code) {
    if (is_in(uppercase_table(), code)) return lower_of(text.bytes(), at, code);
    if (is_in(lowercase_table(), code)) return upper_of(code);
    std::string same;
    append_utf8(same, code);
    return same;
  });
}

bool is_upper(std::string_view text) { return has_case(text, true); }
bool is_lower(std::string_view text) { return has_case(text, false); }
bool is_printable(std::uint32_t code) { return !is_in(unprintable_table(), code); }

}  // namespace bezel::jinja
