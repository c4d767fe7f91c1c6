#include "bezel/train/config_fields.h"

#include <algorithm>
#include <cctype>
#include <charconv>

namespace bezel::train {
namespace {

// In the order of ScheduleKind.
constexpr std::string_view kSchedules[] = {"cosine", "linear", "constant", "constant_with_warmup"};

bool is_plain_names(const std::string& text) {
  return !text.empty() && std::ranges::all_of(text, [](unsigned char c) {
    return std::isalnum(c) || c == '_' || c == '.' || c == ',' || c == ' ';
  });
}

}  // namespace

void assign(std::string& field, const ConfigValue& value) { field = value.as_text(); }
void assign(std::int64_t& field, const ConfigValue& value) { field = value.as_whole(); }
void assign(double& field, const ConfigValue& value) { field = value.as_number(); }
void assign(bool& field, const ConfigValue& value) { field = value.as_bool(); }
void assign(std::vector<std::string>& field, const ConfigValue& value) { field = value.as_texts(); }

void assign(ScheduleKind& field, const ConfigValue& value) {
  const auto* const name = std::ranges::find(kSchedules, value.as_text());
  if (name == std::end(kSchedules)) value.fail("cosine, linear, constant or constant_with_warmup");
  field = static_cast<ScheduleKind>(name - kSchedules);
}

void assign(std::vector<lora::Tower>& field, const ConfigValue& value) {
  field.clear();
  for (const std::string& name : value.as_texts()) {
    const auto* const tower =
        std::ranges::find_if(lora::kTowers, [&](lora::Tower tower) { return lora::tower_name(tower) == name; });
    if (tower == std::end(lora::kTowers)) value.fail("a list of language, vision, audio, projectors");
    if (std::ranges::find(field, *tower) == field.end()) field.push_back(*tower);
  }
}

// A name without any sign of a regex would, as a full match, find nothing: take it as the list that is meant.
void assign(lora::ModulePattern& field, const ConfigValue& value) {
  if (value.kind == ConfigValue::Kind::kScalar && value.as_text() == "all")
    field = lora::ModulePattern::from_text("all-linear");
  else if (value.kind == ConfigValue::Kind::kScalar && !is_plain_names(value.as_text()))
    field = lora::ModulePattern::from_text(value.as_text());
  else if (std::vector<std::string> names = value.as_texts(); names == std::vector<std::string>{"all-linear"})
    field = lora::ModulePattern::from_text("all-linear");
  else
    field = lora::ModulePattern::from_names(std::move(names));
}

std::string show(const std::string& text) {
  if (text.empty()) return "null";
  std::string out = "\"";
  for (const char c : text) {
    constexpr std::string_view kHex = "0123456789abcdef";
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) < 0x20)
      out += std::string("\\x") + kHex[static_cast<unsigned char>(c) >> 4] + kHex[c & 15];
    else
      out += c;
  }
  return out + "\"";
}

std::string show(std::int64_t value) { return std::to_string(value); }
std::string show(bool value) { return value ? "true" : "false"; }

std::string show(double value) {
  char buffer[40];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value).ptr;
  std::string text(buffer, end);
  // YAML 1.1 readers take "2e-05" for text; with a point it is a number to all of them.
  const auto exponent = text.find('e');
  if (exponent != std::string::npos && text.find('.') == std::string::npos) text.insert(exponent, ".0");
  return text;
}

std::string show(const std::vector<std::string>& texts) {
  std::string out = "[";
  for (const std::string& text : texts) out += (out.size() > 1 ? ", " : "") + show(text);
  return out + "]";
}

std::string show(ScheduleKind kind) { return std::string(kSchedules[static_cast<std::size_t>(kind)]); }

std::string show(const std::vector<lora::Tower>& towers) {
  std::string out = "[";
  for (const lora::Tower tower : towers) out += (out.size() > 1 ? ", " : "") + std::string(lora::tower_name(tower));
  return out + "]";
}

std::string show(const lora::ModulePattern& pattern) {
  switch (pattern.kind) {
    case lora::ModulePattern::Kind::kNames:
      return show(pattern.names);
    case lora::ModulePattern::Kind::kRegex:
      return show(pattern.regex);
    case lora::ModulePattern::Kind::kAllLinear:
      return "all-linear";
    case lora::ModulePattern::Kind::kDefault:
      break;
  }
  return "null";
}

}  // namespace bezel::train
