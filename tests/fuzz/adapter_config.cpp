// adapter_config.json, and asking its patterns for layers.
#include "bezel/lora/match.h"
#include "fuzz/target.h"

namespace {

using namespace bezel;

bool ask(const lora::AdapterConfig& config) {
  const lora::ModuleMatcher targets(config.lora.target_modules, "target_modules");
  const lora::ModuleMatcher excluded(config.lora.exclude_modules, "exclude_modules");
  const lora::PatternTable ranks(config.lora.rank_pattern, "rank_pattern");
  const lora::PatternTable alphas(config.lora.alpha_pattern, "alpha_pattern");
  for (const char* name : {"model.language_model.layers.17.self_attn.q_proj",
                           "model.vision_tower.encoder.layers.3.mlp.gate_proj.linear"}) {
    const std::vector<std::string> spellings = lora::spellings(name, false);
    targets.matches(spellings);
    excluded.matches(spellings);
    fuzz::require(ranks.find(spellings, config.lora.rank) > 0);
    alphas.find(spellings, config.lora.alpha);
  }
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto config = fuzz::accepted(
      [&] { return lora::parse_adapter_config(io::parse_json(fuzz::as_text(data, size), "input"), "input"); });
  if (config) fuzz::accepted([&] { return ask(*config); });  // a regex may be none
  return 0;
}
