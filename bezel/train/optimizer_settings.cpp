#include "bezel/train/optimizer_settings.h"

#include <algorithm>
#include <cctype>

namespace bezel::train {
namespace {

constexpr std::string_view kOptimizerNames[] = {"adamw", "adamw_8bit", "adafactor", "lion", "muon"};
constexpr std::string_view kEightBit[] = {"min_8bit_size"};
constexpr std::string_view kAdafactor[] = {"clip_threshold", "decay_rate", "beta1"};
constexpr std::string_view kMuon[] = {"momentum", "nesterov", "ns_steps", "adjust_lr_fn"};

}  // namespace

std::span<const std::string_view> optimizer_names() { return kOptimizerNames; }

std::span<const std::string_view> options_of(OptimizerKind kind) {
  switch (kind) {
    case OptimizerKind::kAdamW8bit:
      return kEightBit;
    case OptimizerKind::kAdafactor:
      return kAdafactor;
    case OptimizerKind::kMuon:
      return kMuon;
    case OptimizerKind::kAdamW:
    case OptimizerKind::kLion:
      break;
  }
  return {};
}

bool decays(std::string_view parameter) {
  std::string name = ".";
  for (const char c : parameter) name += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  name += '.';
  return std::ranges::none_of(std::initializer_list<const char*>{"bias", "layernorm", "rmsnorm", ".norm.", "_norm."},
                              [&](const char* part) { return name.find(part) != std::string::npos; });
}

}  // namespace bezel::train
