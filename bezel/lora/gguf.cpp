#include "bezel/lora/gguf.h"

#include <filesystem>
#include <optional>

#include <ATen/ATen.h>

#include "bezel/error.h"
#include "bezel/io/gguf_writer.h"
#include "bezel/io/key_map.h"
#include "bezel/lora/adapter_io.h"
#include "bezel/lora/expert_keys.h"
#include "bezel/lora/file_names.h"
#include "bezel/lora/match.h"
#include "bezel/lora/uniform_adapter.h"

namespace bezel::lora {
namespace {

using torch::Tensor;

constexpr std::string_view kLayers = "model.language_model.layers.";

// "blk.3.attn_q.weight" of a canonical module name; nothing for a module that llama.cpp multiplies without adapters.
// What it adds to the down projections of experts passes by the scale of each expert, as PEFT's does not.
std::optional<std::string> gguf_name(std::string_view module) {
  const bool none = module.find(".router.") != std::string_view::npos || module.ends_with(".experts.down_proj");
  if (!module.starts_with(kLayers) || none) return std::nullopt;
  return io::gguf_tensor_name(std::string(module).append(is_expert_matrix(module) ? "" : ".weight"));
}

std::string architecture_of(const io::Json& config, const std::map<std::string, StoredPair>& pairs,
                            const std::string& source) {
  const io::JsonView json(config, source);
  if (const auto mapping = json.find("auto_mapping"))
    if (const auto name = mapping->find("base_model_class"))
      for (const auto& [prefix, architecture] : {std::pair("Gemma3", "gemma3"), std::pair("Gemma4", "gemma4")})
        if (name->text().starts_with(prefix)) return architecture;
  for (const auto& [module, pair] : pairs)
    if (pair.stored.find("model.language_model.") != std::string::npos) return "gemma4";
  throw Error(source, ": does not say whether the adapter is one of Gemma 3 or of Gemma 4; name its base with --model");
}

/// A pair as a GGUF file has it: of a stack A [experts, rank, in] and B [experts, out, rank].
struct GgufPair {
  Tensor a, b;
  std::int64_t rank = 0;
};

// PEFT keeps the rows of an expert together in A, and its columns `experts` apart in B.
GgufPair stack_of(const StoredPair& pair, std::int64_t rank, const std::string& source) {
  const std::int64_t rows = pair.a.size(0);
  if (rows % rank != 0)
    throw Error(source, ": tensor '", pair.a_key, "' ", pair.a.sizes(), " has no whole number of experts of rank ",
                rank, ", by adapter_config.json");
  const std::int64_t experts = rows / rank;
  return {pair.a.view({experts, rank, -1}), pair.b.view({-1, rank, experts}).permute({2, 0, 1}), rank};
}

Tensor floats(const Tensor& tensor) { return tensor.to(torch::kFloat).contiguous(); }

}  // namespace

GgufAdapter write_gguf_adapter(const std::string& folder, const std::string& architecture, const std::string& output) {
  const std::string config_path = (std::filesystem::path(folder) / kAdapterConfig).string();
  const io::Json json = io::read_json_file(config_path);
  const LoraConfig config = parse_adapter_config(json, config_path, {.saved_modules = true}).lora;
  refuse_tables(config, config_path);
  if (config.use_dora)
    throw Error(config_path,
                ": DoRA (use_dora) scales the rows of the base's matrices, for which llama.cpp has no form "
                "in an adapter; merge it: bezel merge --adapter … --to gguf");
  const std::string weights = find_weights(folder);
  auto pairs = read_pairs(weights);
  name_expert_pairs(config, pairs);
  const PatternTable<std::int64_t> ranks(config.rank_pattern, "rank_pattern");
  const PatternTable<double> alphas(config.alpha_pattern, "alpha_pattern");
  GgufAdapter adapter{.architecture = architecture, .layers = 0, .left_behind = {}};
  if (architecture.empty()) adapter.architecture = architecture_of(json, pairs, config_path);
  std::vector<io::NewGgufTensor> tensors;
  const auto add = [&](const std::string& name, const Tensor& tensor) {
    tensors.push_back({name, io::GgufType::kF32, tensor.sizes().vec(),
                       [tensor](io::GgufSink& sink) { sink.put(tensor.const_data_ptr<float>(), tensor.nbytes()); }});
  };
  for (const auto& [module, pair] : pairs) {
    if (pair.is_embedding || module == "lm_head")
      throw Error(
          weights, ": tensor '", pair.a_key, "' is LoRA on the ", pair.is_embedding ? "embeddings" : "head",
          ", which llama.cpp takes for one table where they are tied; merge the adapter (bezel merge) and convert "
          "the result");
    const auto name = gguf_name(module);
    if (!name) {
      adapter.left_behind.push_back(pair.stored);
      continue;
    }
    check_pair(pair, weights);
    const GgufPair made = is_expert_matrix(module)
                              ? stack_of(pair, ranks.find({module, pair.stored}, config.rank), weights)
                              : GgufPair{pair.a, pair.b, pair.a.size(0)};
    const std::int64_t rank = made.rank;
    const double alpha = alphas.find({module, pair.stored}, config.alpha);
    const double factor = config.scale(rank, alpha) * static_cast<double>(rank) / config.alpha;
    add(*name + ".lora_a", floats(made.a));
    add(*name + ".lora_b", factor == 1.0 ? floats(made.b) : floats(made.b) * factor);
    ++adapter.layers;
  }
  if (tensors.empty())
    throw Error(folder, ": no layer of the language model is adapted, and llama.cpp takes no others");
  io::NewGgufKeys keys;
  keys.set("general.type", "adapter");
  keys.set("general.architecture", adapter.architecture);
  keys.set("adapter.type", "lora");
  keys.set("adapter.lora.alpha", static_cast<float>(config.alpha));
  io::write_gguf(output, keys, tensors);
  return adapter;
}

}  // namespace bezel::lora
