#include "bezel/quant/dense_base.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <string_view>

#include "bezel/io/hub_cache.h"
#include "bezel/io/regular_file.h"

namespace bezel::quant {
namespace {

using io::JsonView;

constexpr std::size_t kCardBytes = 16384;  // the head of a model card ends long before

struct Release {
  std::int64_t hidden_size, num_layers;
  std::string_view name;
};
constexpr std::array<Release, 6> kReleases{{{1536, 35, "google/gemma-4-E2B"},
                                            {2560, 42, "google/gemma-4-E4B"},
                                            {2816, 30, "google/gemma-4-26B-A4B"},
                                            {5376, 60, "google/gemma-4-31B"},
                                            {640, 18, "google/gemma-3-270m"},
                                            {1152, 26, "google/gemma-3-1b"}}};

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kAround = " \t\r\"'-[]";
  const std::size_t begin = text.find_first_not_of(kAround);
  return begin == text.npos ? "" : text.substr(begin, text.find_last_not_of(kAround) - begin + 1);
}

// `base_model` in the head of a model card: on its line, or the first item of the list below it.
std::string base_of_card(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) return "";
  const io::RegularFile file(path);
  std::string text(kCardBytes, '\0');
  text.resize(file.read(text.data(), text.size(), 0));
  constexpr std::string_view kKey = "\nbase_model:";
  const std::size_t end = text.find("\n---");
  const std::size_t at = text.find(kKey);
  if (!text.starts_with("---") || at == text.npos || at > end) return "";
  const std::string_view rest = std::string_view(text).substr(at + kKey.size());
  std::string_view value = trimmed(rest.substr(0, rest.find('\n')));
  if (value.empty() && rest.find('\n') != rest.npos) {
    const std::string_view next = rest.substr(rest.find('\n') + 1);
    value = trimmed(next.substr(0, next.find('\n')));
  }
  return !value.empty() && io::is_hub_id(value) ? std::string(value) : "";
}

std::string base_by_size(const JsonView& config) {
  const auto number = [](const JsonView& section, const char* key) {
    const auto value = section.find(key);
    return value && value->value().is_number_integer() ? value->value().get<std::int64_t>() : 0;
  };
  const auto inner = config.find("text_config");
  const JsonView& text = inner && inner->is_object() ? *inner : config;
  const std::int64_t width = number(text, "hidden_size"), layers = number(text, "num_hidden_layers");
  for (const Release& release : kReleases)
    if (release.hidden_size == width && release.num_layers == layers)
      return std::string(release.name) + " or " + std::string(release.name) + "-it";
  return "";
}

}  // namespace

std::string take_dense_base(const JsonView& config) {
  std::string base = base_of_card((std::filesystem::path(config.source()).parent_path() / "README.md").string());
  if (const auto name = config.find("_name_or_path"); base.empty() && name && name->is_string())
    if (const std::string text = name->text(); !text.empty() && io::is_hub_id(text)) base = text;
  if (base.empty()) base = base_by_size(config);
  return "take the checkpoint in bfloat16 that it was made from" + (base.empty() ? "" : " (" + base + ")") +
         ", with `storage: nf4` or `int8` where memory is short";
}

}  // namespace bezel::quant
