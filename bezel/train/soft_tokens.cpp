#include "bezel/train/soft_tokens.h"

#include <filesystem>

namespace bezel::train {
namespace {

// All that soft tokens depend on beside the input of the tower. The machine is in it, so that a run gives the same
// bytes with the cache of another as without.
std::string tower_fingerprint(const RunFacts& facts) {
  std::string text;
  const auto add = [&text](const std::string& key, const std::string& value) { text += key + "=" + value + "\n"; };
  for (const auto& [name, hash] : facts.inputs)
    if (name.starts_with("base_model/")) add(name, hash);
  for (const char* key : {"dtype", "storage", "quantize_skip"}) add(key, facts.config.at(key));
  for (const auto& [name, value] : facts.machine) add(name, value);
  return text;
}

}  // namespace

std::shared_ptr<gemma4::SoftTokenCache> make_soft_token_cache(const TrainConfig& config, const RunFacts& facts,
                                                              bool repeats) {
  if (!config.cache_soft_tokens.value_or(repeats)) return nullptr;
  const std::string folder =
      config.cache_dir.empty() ? (std::filesystem::path(config.output_dir) / "cache").string() : config.cache_dir;
  return std::make_shared<gemma4::SoftTokenCache>(gemma4::SoftTokenCache::Options{
      folder, tower_fingerprint(facts), static_cast<std::int64_t>(config.cache_limit_gb * 1e9)});
}

}  // namespace bezel::train
