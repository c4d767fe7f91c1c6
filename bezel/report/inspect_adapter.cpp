#include <filesystem>
#include <map>

#include "bezel/error.h"
#include "bezel/io/key_map.h"
#include "bezel/io/safetensors.h"
#include "bezel/lora/adapter_io.h"
#include "bezel/lora/config.h"
#include "bezel/lora/expert_keys.h"
#include "bezel/lora/file_names.h"
#include "bezel/lora/match.h"
#include "bezel/report/inspect.h"
#include "bezel/report/inspect_parts.h"

namespace bezel::report {
namespace {

using io::Json;

struct Layer {
  const io::TensorInfo* a = nullptr;
  const io::TensorInfo* b = nullptr;
  const io::TensorInfo* magnitude = nullptr;
};

bool fits(const Layer& layer, bool dora) {
  return dora == (layer.magnitude != nullptr) && layer.a != nullptr && layer.b != nullptr &&
         layer.a->shape.size() == 2 && layer.b->shape.size() == 2 && layer.a->shape[0] == layer.b->shape[1];
}

/// Tensors of an adapter file by what they are.
struct AdapterTensors {
  std::map<std::string, Layer> layers;  // by canonical module name
  std::vector<std::string> saved;       // whole matrices beside LoRA
  std::vector<std::string> unexpected;
};

AdapterTensors sort_tensors(const io::SafetensorsFile& file) {
  AdapterTensors tensors;
  for (const io::TensorInfo& info : file.tensors()) {
    const auto key = io::parse_adapter_key(info.name);
    const bool is_a = key && (key->part == "lora_A" || key->part == "lora_embedding_A");
    if (is_a || (key && (key->part == "lora_B" || key->part == "lora_embedding_B")))
      (is_a ? tensors.layers[key->module].a : tensors.layers[key->module].b) = &info;
    else if (key && key->part == "lora_magnitude_vector")
      tensors.layers[key->module].magnitude = &info;
    else if (key && key->part == "token_adapter.trainable_tokens_delta")
      tensors.saved.push_back(info.name);
    else
      (io::saved_module_of(info.name) ? tensors.saved : tensors.unexpected).push_back(info.name);
  }
  return tensors;
}

}  // namespace

Json inspect_adapter(const std::string& folder) {
  const auto path = [&](const char* name) { return (std::filesystem::path(folder) / name).string(); };
  const lora::AdapterConfig config =
      lora::read_adapter_config(path(lora::kAdapterConfig), {.saved_modules = true, .pissa = true, .list_only = true});
  const auto file = io::SafetensorsFile::open(lora::find_weights(folder));
  const auto [layers, saved, unexpected] = sort_tensors(*file);
  Json towers = Json::object();
  Json incomplete = Json::array();
  std::map<std::int64_t, std::int64_t> ranks;
  const lora::PatternTable<std::int64_t> rank_pattern(config.lora.rank_pattern, "rank_pattern");
  for (const auto& [module, layer] : layers) {
    const auto matrix = lora::expert_matrix_of(module, config.lora);
    if (!fits(layer, config.lora.use_dora) || (lora::is_expert_key_module(module) && !matrix)) {
      incomplete.push_back(module);
      continue;
    }
    // The tensors of experts do not say how many there are.
    ++ranks[matrix ? rank_pattern.find(lora::all_spellings(*matrix), config.lora.rank) : layer.a->shape[0]];
    Json& tower = towers[matrix ? "experts" : tower_name_of(module)];
    if (tower.is_null()) tower = Json::object();
    tower["layers"] = tower.value("layers", 0) + 1;
    tower["parameters"] = tower.value("parameters", std::int64_t{0}) + element_count(layer.a->shape) +
                          element_count(layer.b->shape) +
                          (layer.magnitude != nullptr ? element_count(layer.magnitude->shape) : 0);
  }
  std::size_t num_tokens = 0;
  for (const auto& [name, ids] : config.lora.trainable_token_indices) num_tokens += ids.size();
  Json rank_counts = Json::object();
  for (const auto& [rank, count] : ranks) rank_counts[std::to_string(rank)] = count;
  return {{"kind", "adapter"},
          {"path", folder},
          {"base_model", config.base_model},
          {"lora_r", config.lora.rank},
          {"lora_alpha", config.lora.alpha},
          {"use_rslora", config.lora.use_rslora},
          {"use_dora", config.lora.use_dora},
          {"layers_to_transform", config.lora.layers_to_transform},
          {"tensors", file->tensors().size()},
          {"towers", towers},
          {"layers_by_rank", rank_counts},
          {"incomplete_layers", incomplete},
          {"saved_matrices", saved},
          {"modules_to_save", config.lora.modules_to_save},
          {"tokens", num_tokens},
          {"unexpected_tensors", unexpected},
          {"unsupported", config.unsupported},
          {"loads", incomplete.empty() && unexpected.empty() && config.unsupported.empty() &&
                        (!layers.empty() || !saved.empty())}};
}

}  // namespace bezel::report
