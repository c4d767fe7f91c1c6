#include "bezel/lora/expert_keys.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "bezel/lora/match.h"

namespace bezel::lora {
namespace {

constexpr std::string_view kExperts = ".experts", kWrapped = ".base_layer";
constexpr std::string_view kMatrices[] = {".gate_up_proj", ".down_proj"};  // as the module registers them

bool drop_tail(std::string_view& text, std::string_view tail) {
  if (!text.ends_with(tail)) return false;
  text.remove_suffix(tail.size());
  return true;
}

}  // namespace

bool is_expert_key_module(std::string_view module) {
  drop_tail(module, kWrapped);
  return module.ends_with(kExperts);
}

bool is_expert_matrix(std::string_view name) {
  return std::ranges::any_of(kMatrices, [&](std::string_view matrix) {
    std::string_view stem = name;
    return drop_tail(stem, matrix) && stem.ends_with(kExperts);
  });
}

std::string expert_key_module(std::string_view matrix, bool both_adapted) {
  const bool is_inner = drop_tail(matrix, kMatrices[0]) && both_adapted;
  drop_tail(matrix, kMatrices[1]);
  return std::string(matrix).append(is_inner ? kWrapped : "");
}

std::optional<std::string> expert_matrix_of(std::string_view key_module, const LoraConfig& config) {
  if (!is_expert_key_module(key_module)) return std::nullopt;
  const bool is_inner = drop_tail(key_module, kWrapped);
  std::vector<std::string> named;
  for (const std::string_view matrix : kMatrices)
    if (std::string name = std::string(key_module).append(matrix);
        is_called_any(all_spellings(name), config.target_parameters))
      named.push_back(std::move(name));
  if (named.empty() || (is_inner && named.size() < 2)) return std::nullopt;
  return is_inner ? named.front() : named.back();
}

std::string stored_matrix_name(std::string_view stored, std::string_view matrix) {
  drop_tail(stored, kWrapped);
  return std::string(stored).append(matrix.substr(matrix.rfind('.')));
}

}  // namespace bezel::lora
