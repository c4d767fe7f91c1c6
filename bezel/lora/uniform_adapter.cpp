#include "bezel/lora/uniform_adapter.h"

#include <algorithm>
#include <filesystem>
#include <tuple>

#include <ATen/ATen.h>

#include "bezel/error.h"
#include "bezel/io/atomic_write.h"
#include "bezel/io/key_map.h"
#include "bezel/io/new_folder.h"
#include "bezel/io/tensor_io.h"
#include "bezel/lora/expert_keys.h"
#include "bezel/lora/file_names.h"
#include "bezel/lora/match.h"

namespace bezel::lora {
namespace {

using torch::Tensor;

// What other tools read is LoRA on linear layers.
void refuse_other_kinds(const std::string& module, const StoredPair& pair, const std::string& source) {
  const char* what = pair.magnitude.defined()       ? "is of DoRA"
                     : pair.is_embedding            ? "is of embeddings"
                     : module == "lm_head"          ? "is of the head"
                     : is_expert_key_module(module) ? "is of experts"
                                                    : nullptr;
  if (what != nullptr)
    throw Error(source, ": tensor '", pair.a_key, "' ", what,
                ", which this form has no place for; merge the adapter into ",
                "its base (bezel merge) and take the result");
}

// x with zeros behind it along `dim`, up to `size`.
Tensor padded(const Tensor& x, std::int64_t dim, std::int64_t size) {
  if (x.size(dim) == size) return x.to(torch::kFloat).contiguous();
  std::vector<std::int64_t> shape = x.sizes().vec();
  shape[static_cast<std::size_t>(dim)] = size;
  Tensor out = at::zeros(shape, at::kFloat);
  out.narrow(dim, 0, x.size(dim)).copy_(x);
  return out;
}

// The class that servers load the adapter's base as, by auto_mapping or by the adapter's own names.
struct ServedBase {
  std::string architecture;
  bool text_names = false;
};

ServedBase base_of(const std::string& folder, const UniformAdapter& adapter) {
  const std::string& known = adapter.architecture;
  if (known.starts_with("Gemma3")) return {known, true};
  const bool is_text = std::ranges::none_of(adapter.pairs, [](const auto& item) {
    return item.second.stored.find("language_model") != std::string::npos || item.second.stored == item.first;
  });
  if (is_text && known.empty())
    throw Error((std::filesystem::path(folder) / kAdapterConfig).string(),
                ": does not say whether the adapter is one of Gemma 3 or of Gemma 4 (auto_mapping); convert it "
                "with --names multimodal first, where it is one of Gemma 4");
  return {
      known.starts_with("Gemma4Unified") ? "Gemma4UnifiedForConditionalGeneration" : "Gemma4ForConditionalGeneration",
      false};
}

constexpr std::string_view kDecoderLayers = "model.language_model.layers.";

bool sglang_takes(const std::string& module) {
  constexpr std::string_view kTaken[] = {".self_attn.q_proj", ".self_attn.k_proj", ".self_attn.v_proj",
                                         ".self_attn.o_proj", ".mlp.gate_proj",    ".mlp.up_proj",
                                         ".mlp.down_proj"};
  return module.starts_with(kDecoderLayers) &&
         std::ranges::any_of(kTaken, [&](std::string_view name) { return module.ends_with(name); });
}

// It puts q, k and v into one matrix, and gate and up; of these k alone may be missing.
void check_whole_products(const std::map<std::string, StoredPair>& pairs, const std::string& source) {
  const auto check = [&](const std::string& module, std::string_view leaf, std::initializer_list<const char*> others) {
    if (!module.starts_with(kDecoderLayers) || !module.ends_with(leaf)) return;
    const std::string stem = module.substr(0, module.size() - leaf.size());
    for (const char* other : others)
      if (!pairs.contains(stem + other))
        throw Error(source, ": adapts '", module, "' but not '", stem, other, "', which SGLang puts into one matrix ",
                    "with it and asks for; serve the adapter with vLLM, or merge it (bezel merge)");
  };
  for (const auto& [module, pair] : pairs) {
    check(module, "q_proj", {"v_proj"});
    check(module, "k_proj", {"q_proj", "v_proj"});
    check(module, "v_proj", {"q_proj"});
    check(module, "gate_proj", {"up_proj"});
    check(module, "up_proj", {"gate_proj"});
  }
}

}  // namespace

void refuse_tables(const LoraConfig& config, const std::string& path) {
  const bool whole = !config.modules_to_save.empty();
  if (!whole && config.trainable_token_indices.empty()) return;
  const std::string& name = whole ? config.modules_to_save.front() : config.trainable_token_indices.front().first;
  throw Error(path, ": key '", whole ? "modules_to_save" : "trainable_token_indices", "': ", name, " is trained ",
              whole ? "whole" : "in some rows",
              " beside LoRA, for which this form has no place; merge the adapter into its base (bezel merge) and take ",
              "the result");
}

UniformAdapter read_uniform_adapter(const std::string& folder) {
  const std::string config_path = (std::filesystem::path(folder) / kAdapterConfig).string();
  const AdapterConfig file = read_adapter_config(config_path, {.saved_modules = true});
  refuse_tables(file.lora, config_path);
  const std::string weights = find_weights(folder);
  UniformAdapter adapter{.config = file.lora,
                         .base_model = file.base_model,
                         .architecture = file.architecture,
                         .image_attention = file.image_attention,
                         .pairs = read_pairs(weights)};
  std::int64_t rank = 0;
  for (const auto& [module, pair] : adapter.pairs) {
    refuse_other_kinds(module, pair, weights);
    check_pair(pair, weights);
    rank = std::max(rank, pair.a.size(0));
  }
  const PatternTable<double> alphas(file.lora.alpha_pattern, "alpha_pattern");
  const double scale = file.lora.scale(file.lora.rank, file.lora.alpha);
  for (auto& [module, pair] : adapter.pairs) {
    const double own = file.lora.scale(pair.a.size(0), alphas.find({module, pair.stored}, file.lora.alpha));
    pair.a = padded(pair.a, 0, rank);
    pair.b = padded(pair.b, 1, rank);
    if (own != scale) pair.b = pair.b * (own / scale);
  }
  adapter.config.rank = rank;
  adapter.config.alpha = scale * static_cast<double>(rank);
  adapter.config.use_rslora = false;
  adapter.config.rank_pattern.clear();
  adapter.config.alpha_pattern.clear();
  return adapter;
}

Conversion convert_adapter_for_servers(const std::string& folder, const std::string& output, Server server) {
  const UniformAdapter adapter = read_uniform_adapter(folder);
  if (server == Server::kSglang) check_whole_products(adapter.pairs, folder);
  const ServedBase base = base_of(folder, adapter);
  std::vector<std::pair<std::string, torch::Tensor>> tensors;
  std::vector<AdaptedLayer> layers;
  Conversion conversion;
  for (const auto& [module, pair] : adapter.pairs) {
    if (server == Server::kSglang && !sglang_takes(module)) {
      conversion.left_behind.push_back(pair.stored);
      continue;
    }
    for (const auto& [part, stored, tensor] :
         {std::tuple("lora_A", pair.a_key, pair.a), std::tuple("lora_B", pair.b_key, pair.b)}) {
      const std::string name = io::adapter_key(module, part, base.text_names);
      conversion.renamed += name != stored;
      ++conversion.tensors;
      tensors.emplace_back(name, tensor);
    }
    layers.push_back({io::peft_module_name(module, base.text_names), adapter.config.rank, adapter.config.alpha});
  }
  if (layers.empty()) throw Error(folder, ": adapts no layer that SGLang takes an adapter on");
  io::NewFolder made(output);
  made.copy_files(folder, [](const std::string& name) { return name != kAdapterWeights && name != kAdapterConfig; });
  io::save_safetensors((made.path() / kAdapterWeights).string(), tensors);
  const io::Json json =
      adapter_config_json(adapter.config, layers, adapter.base_model, base.architecture, adapter.image_attention);
  io::write_file_atomically((made.path() / kAdapterConfig).string(), json.dump(2) + "\n");
  made.commit();
  return conversion;
}

}  // namespace bezel::lora
