#include "bezel/train/config_reader.h"

#include <algorithm>
#include <iterator>

#include "bezel/error.h"
#include "bezel/nearest.h"
#include "bezel/train/word_list.h"

namespace bezel::train {
namespace {

constexpr std::size_t kMostProblems = 100;

std::string place_of(const ConfigValue& value) { return value.where + ": key '" + value.key + "'"; }

// The setting as YAML where the slot's own key writes it, else the value's text.
std::string slot_text(const ConfigBinding& binding, const TrainConfig& config, const ConfigValue& value) {
  const ConfigBinding* const own = find_binding(binding.slot);
  return own != nullptr && own->write != nullptr ? own->write(config) : value.lower_text();
}

}  // namespace

std::string normal_key(std::string_view name) {
  std::string out(name);
  std::ranges::replace(out, '-', '_');
  return out;
}

const ConfigBinding* find_binding(std::string_view name) {
  for (const ConfigBinding& binding : config_bindings()) {
    if (binding.key.name == name || is_listed(binding.key.aliases, name)) return &binding;
  }
  return nullptr;
}

std::string nearest_key(std::string_view name) {
  std::vector<std::string_view> names;
  for (const ConfigKey& key : config_keys()) {
    names.push_back(key.name);
    std::ranges::copy(words_of(key.aliases), std::back_inserter(names));
  }
  for (const ForeignKey& key : foreign_keys())
    std::ranges::copy_if(words_of(key.names), std::back_inserter(names),
                         [](std::string_view other) { return !other.ends_with('*'); });
  return nearest_name(normal_key(name.substr(0, 80)), names);
}

void ConfigProblems::add(const std::string& problem) { problems_.push_back(problem); }

void ConfigProblems::add_unknown(const ConfigValue& value, const std::string& name) {
  has_unknown_ = true;
  const std::string near = nearest_key(name);
  const std::string advice = !near.empty()                           ? "did you mean '" + near + "'?"
                             : value.kind == ConfigValue::Kind::kMap ? "write its keys at the top level, or delete it"
                                                                     : "delete it";
  add(value.where + ": unknown key '" + name.substr(0, 80) + "' (" + advice + ")");
}

void ConfigProblems::attempt(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {  // so that the user reads of all mistakes at once
    if (error.kind() != ErrorKind::kConfig) throw;
    add(error.what());
  }
}

void ConfigProblems::throw_if_any() const {
  if (problems_.empty()) return;
  std::string text;
  for (std::size_t i = 0; i < std::min(problems_.size(), kMostProblems); ++i)
    text += (i > 0 ? "; " : "") + problems_[i];
  if (problems_.size() > kMostProblems) text += "; and " + std::to_string(problems_.size() - kMostProblems) + " more";
  throw Error(ErrorKind::kConfig, text, has_unknown_ ? "; `bezel train --help` lists all keys" : "");
}

void ConfigReader::apply(const std::string& name, ConfigValue value) {
  value.key = name;
  const std::string key = normal_key(name);
  const ConfigBinding* const binding = find_binding(key);
  const ForeignKey* const foreign = binding == nullptr ? find_foreign_key(key) : nullptr;
  if (binding == nullptr && foreign == nullptr) return problems_->add_unknown(value, name);
  if (value.is_empty()) return;  // "key:", null and "" set nothing
  problems_->attempt([&] { binding != nullptr ? read(*binding, value) : read_foreign(*foreign, value); });
}

void ConfigReader::read(const ConfigBinding& binding, const ConfigValue& value) {
  if (binding.is_neutral != nullptr && binding.is_neutral(value)) {
    turned_off_.emplace(binding.key.name, place_of(value));
    return;
  }
  binding.read(*config_, value);
  const Given now{place_of(value), slot_text(binding, *config_, value)};
  const auto [before, is_new] = given_.try_emplace(binding.slot, now);
  if (!is_new && before->second.text != now.text)
    throw Error(ErrorKind::kConfig, now.place, " contradicts ", before->second.place, ": ", now.text, " and ",
                before->second.text, "; keep one");
}

void ConfigReader::read_foreign(const ForeignKey& key, const ConfigValue& value) {
  if (!accepts(key, value)) throw Error(ErrorKind::kConfig, place_of(value), ": ", key.advice);
  if (key.effect == ForeignEffect::kNoted && !value.is_off())
    config_->notes.push_back(value.key + ": " + std::string(key.advice));
  if (key.effect == ForeignEffect::kIgnored) ignored_.push_back(value.key);
}

std::string ConfigReader::place(std::string_view slot) const {
  const auto found = given_.find(slot);
  return found == given_.end() ? "" : found->second.place;
}

std::string ConfigReader::turned_off(std::string_view key) const {
  const auto found = turned_off_.find(key);
  return found == turned_off_.end() ? "" : found->second;
}

}  // namespace bezel::train
