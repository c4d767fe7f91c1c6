#include "bezel/train/config_fields.h"

#include <algorithm>
#include <cctype>
#include <charconv>

#include "bezel/error.h"

namespace bezel::train {
namespace {

/// Calls visit(name, member) for each of the schedule's options.
template <typename Options, typename Visit>
void each_option(Options& options, Visit visit) {
  visit("num_cycles", options.num_cycles);
  visit("min_lr", options.min_lr);
  visit("min_lr_rate", options.min_lr_rate);
  visit("warmup_lr_rate", options.warmup_lr_rate);
  visit("lr_end", options.lr_end);
  visit("power", options.power);
  visit("timescale", options.timescale);
  visit("num_stable_steps", options.num_stable_steps);
  visit("num_decay_steps", options.num_decay_steps);
  visit("min_lr_ratio", options.min_lr_ratio);
  visit("warmup_type", options.warmup_type);
  visit("decay_type", options.decay_type);
}

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

void assign(std::vector<std::int64_t>& field, const ConfigValue& value) {
  field.clear();
  for (const std::string& text : value.as_texts()) {
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || end != text.data() + text.size() || number < 0) value.fail("whole numbers from 0 on");
    field.push_back(number);
  }
}

void assign(ScheduleKind& field, const ConfigValue& value) {
  const auto kind = find_schedule(value.lower_text() == "wsd" ? "warmup_stable_decay" : value.lower_text());
  if (kind) {
    field = *kind;
    return;
  }
  std::string names;
  for (const std::string_view name : schedule_names()) names.append(names.empty() ? "" : ", ").append(name);
  value.fail(names);
}

void assign(ScheduleOptions& field, const ConfigValue& value) {
  // JSON in a text is how these arrive on the command lines of other tools.
  if (value.kind == ConfigValue::Kind::kScalar && value.text.starts_with('{'))
    return assign(field, parse_flag_value(value.key, value.where, value.text));
  if (value.kind != ConfigValue::Kind::kMap) value.fail("a map, such as {min_lr_rate: 0.1}");
  field = {};
  for (const auto& [name, item] : value.members) {
    bool known = false;
    each_option(field, [&, &name = name, &item = item](std::string_view option, auto& member) {
      if (option != name) return;
      known = true;
      if (!item.is_empty()) assign(member, item);
    });
    if (!known)
      throw Error(ErrorKind::kConfig, item.where, ": key '", name.substr(0, 80),
                  "' is no option of lr_scheduler_kwargs; ",
                  "expected min_lr, min_lr_rate, num_cycles, lr_end, power, timescale, num_decay_steps, "
                  "num_stable_steps, min_lr_ratio, decay_type, warmup_type or warmup_lr_rate");
  }
}

void assign(std::vector<lora::Tower>& field, const ConfigValue& value) {
  field.clear();
  for (const std::string& name : value.as_texts()) {
    const auto* const tower =
        std::ranges::find_if(lora::kTowers, [&](lora::Tower tower) { return lora::tower_name(tower) == name; });
    if (tower == std::end(lora::kTowers)) value.fail("a list of language, vision, audio, projectors, experts");
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

std::string show(const std::vector<std::int64_t>& numbers) {
  std::string out = "[";
  for (const std::int64_t number : numbers) out += (out.size() > 1 ? ", " : "") + show(number);
  return out + "]";
}

std::string show(ScheduleKind kind) { return std::string(schedule_names()[static_cast<std::size_t>(kind)]); }

GivenOptions given(const ScheduleOptions& options) {
  GivenOptions given;
  each_option(options, [&](std::string_view name, const auto& member) { given.add(name, show(member)); });
  return given;
}

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
