#include "bezel/lora/pissa_config.h"

#include <charconv>
#include <cmath>

namespace bezel::lora {
namespace {

constexpr std::string_view kExact = "pissa", kIterated = "pissa_niter_";

}  // namespace

std::optional<Pissa> parse_pissa(std::string_view init) {
  if (init == kExact) return Pissa{};
  if (!init.starts_with(kIterated)) return std::nullopt;
  init.remove_prefix(kIterated.size());
  Pissa how;
  const auto [end, error] = std::from_chars(init.data(), init.data() + init.size(), how.iterations);
  const bool is_count = error == std::errc() && end == init.data() + init.size() && how.iterations > 0;
  return is_count ? std::optional(how) : std::nullopt;
}

void double_ranks(LoraConfig& config) {
  config.init_lora_weights = "true";
  config.rank *= 2;
  config.alpha = doubled_alpha(config.alpha, config.use_rslora);
  for (auto& [name, rank] : config.rank_pattern) rank *= 2;
  for (auto& [name, alpha] : config.alpha_pattern) alpha = doubled_alpha(alpha, config.use_rslora);
}

double doubled_alpha(double alpha, bool use_rslora) { return alpha * (use_rslora ? std::sqrt(2.0) : 2.0); }

}  // namespace bezel::lora
