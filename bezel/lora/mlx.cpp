#include "bezel/lora/mlx.h"

#include <filesystem>
#include <map>
#include <optional>

#include <ATen/ATen.h>

#include "bezel/error.h"
#include "bezel/io/atomic_write.h"
#include "bezel/io/key_map.h"
#include "bezel/io/new_folder.h"
#include "bezel/io/tensor_io.h"
#include "bezel/lora/file_names.h"
#include "bezel/lora/uniform_adapter.h"

namespace bezel::lora {
namespace {

namespace fs = std::filesystem;
using torch::Tensor;

constexpr const char* kMlxWeights = "adapters.safetensors";
constexpr const char* kMlxConfig = kAdapterConfig;
constexpr std::string_view kLanguage = "model.language_model.";

// The module's path in mlx-lm's tree; nothing for modules of the towers.
std::optional<std::string> mlx_name(const std::string& canonical, bool text_only) {
  if (!canonical.starts_with(kLanguage)) return std::nullopt;
  return (text_only ? "model." : "language_model.model.") + canonical.substr(kLanguage.size());
}

// The canonical module of a path in mlx-lm's tree; nothing where it has another form.
std::optional<std::string> canonical_of(const std::string& path, bool& text_only) {
  for (const std::string_view prefix : {"language_model.model.", "model."}) {
    if (!path.starts_with(prefix)) continue;
    text_only = prefix == "model.";
    return std::string(kLanguage) + path.substr(prefix.size());
  }
  return std::nullopt;
}

io::Json config_json(const UniformAdapter& adapter, const std::vector<std::string>& names) {
  return {{"model", adapter.base_model},
          {"fine_tune_type", "lora"},
          {"num_layers", 0},  // the keys are whole paths, which are looked for in the whole model
          {"lora_parameters",
           {{"rank", adapter.config.rank},
            {"scale", adapter.config.scale(adapter.config.rank, adapter.config.alpha)},
            {"dropout", adapter.config.dropout},
            {"keys", names}}}};
}

struct MlxPair {
  Tensor a, b;
};

struct MlxConfig {
  std::string base_model;
  LoraConfig lora;
};

MlxConfig read_config(const std::string& path) {
  const io::Json json = io::read_json_file(path);
  const io::JsonView view(json, path);
  if (const auto type = view.find("fine_tune_type"); type && type->text() != "lora")
    type->fail(type->text() == "full" ? "lora: the folder holds whole matrices; fuse it with mlx_lm.fuse"
                                      : "lora: fuse an adapter of another kind with mlx_lm.fuse");
  MlxConfig config;
  if (const auto model = view.find("model"); model && !model->is_null()) config.base_model = model->text();
  const io::JsonView parameters = view.at("lora_parameters");
  config.lora.rank = parameters.at("rank").whole(1);
  config.lora.alpha = parameters.at("scale").number() * static_cast<double>(config.lora.rank);
  if (const auto dropout = parameters.find("dropout")) config.lora.dropout = dropout->number();
  return config;
}

[[noreturn]] void refuse(const std::string& path, const std::string& key, const std::string& why) {
  throw Error(path, ": tensor '", key, "' ", why);
}

// lora_a and lora_b of each path.
std::map<std::string, MlxPair> read_mlx_pairs(const std::string& path) {
  std::map<std::string, MlxPair> pairs;
  for (auto& [key, tensor] : io::load_safetensors(path)) {
    const auto dot = key.rfind('.');
    const std::string leaf = dot == std::string::npos ? key : key.substr(dot + 1), module = key.substr(0, dot);
    if (leaf == "m") refuse(path, key, "is the magnitude of DoRA, which is not converted; fuse it with mlx_lm.fuse");
    if (leaf != "lora_a" && leaf != "lora_b") refuse(path, key, "is neither lora_a nor lora_b");
    if (module.find(".experts.") != std::string::npos || tensor.dim() == 3)
      refuse(path, key, "is LoRA on experts, which mlx-lm stores by projection; fuse it with mlx_lm.fuse");
    if (module.ends_with("embed_tokens") || module.ends_with("embed_tokens_per_layer"))
      refuse(path, key, "is LoRA on embeddings, which is not converted; fuse it with mlx_lm.fuse");
    if (tensor.dim() != 2 || !tensor.is_floating_point()) refuse(path, key, "is no floating-point matrix");
    if (!at::isfinite(tensor).all().item<bool>()) refuse(path, key, "holds NaN or Inf");
    (leaf == "lora_a" ? pairs[module].a : pairs[module].b) = tensor;
  }
  if (pairs.empty()) throw Error(path, ": holds no tensor");
  return pairs;
}

void check(const std::string& path, const std::string& module, const MlxPair& pair, std::int64_t rank) {
  if (!pair.a.defined() || !pair.b.defined())
    throw Error(path, ": '", module, "' has no ", pair.a.defined() ? "lora_b" : "lora_a");
  if (pair.a.size(1) != rank || pair.b.size(0) != rank)
    throw Error(path, ": '", module, "': lora_a ", pair.a.sizes(), " and lora_b ", pair.b.sizes(), ", expected [in, ",
                rank, "] and [", rank, ", out], by rank in ", kMlxConfig);
}

}  // namespace

bool is_mlx_adapter(const std::string& folder) {
  std::error_code error;
  return fs::exists(fs::path(folder) / kMlxWeights, error);
}

std::string mlx_base_model(const std::string& folder) {
  return read_config((fs::path(folder) / kMlxConfig).string()).base_model;
}

MlxAdapter write_mlx_adapter(const std::string& folder, const std::string& output) {
  const UniformAdapter adapter = read_uniform_adapter(folder);
  MlxAdapter made{.layers = 0, .rank = adapter.config.rank, .left_behind = {}};
  std::vector<std::pair<std::string, Tensor>> tensors;
  std::vector<std::string> names;
  for (const auto& [module, pair] : adapter.pairs) {
    const auto name = mlx_name(module, pair.stored != module && !io::is_clippable_module(module));
    if (!name) {
      made.left_behind.push_back(pair.stored);
      continue;
    }
    tensors.emplace_back(*name + ".lora_a", pair.a.t().contiguous());
    tensors.emplace_back(*name + ".lora_b", pair.b.t().contiguous());
    names.push_back(*name);
  }
  made.layers = static_cast<std::int64_t>(names.size());
  if (names.empty()) throw Error(folder, ": no layer of the language model is adapted, and mlx-lm has no others");
  io::NewFolder out(output);
  io::save_safetensors((out.path() / kMlxWeights).string(), tensors);
  io::write_file_atomically((out.path() / kMlxConfig).string(), config_json(adapter, names).dump(2) + "\n");
  out.commit();
  return made;
}

std::int64_t read_mlx_adapter(const std::string& folder, const MlxBase& base, const std::string& output) {
  const std::string path = (fs::path(folder) / kMlxWeights).string();
  MlxConfig config = read_config((fs::path(folder) / kMlxConfig).string());
  if (!base.model.empty()) config.base_model = base.model;
  std::vector<std::pair<std::string, Tensor>> tensors;
  std::vector<AdaptedLayer> layers;
  bool text_only = false;
  for (const auto& [module, pair] : read_mlx_pairs(path)) {
    check(path, module, pair, config.lora.rank);
    const auto canonical = canonical_of(module, text_only);
    if (!canonical || !canonical->starts_with("model.language_model.layers."))
      refuse(path, module, "is no layer of Gemma's decoder as mlx-lm names them (language_model.model.layers…)");
    tensors.emplace_back(io::adapter_key(*canonical, "lora_A", text_only), pair.a.t().to(torch::kFloat).contiguous());
    tensors.emplace_back(io::adapter_key(*canonical, "lora_B", text_only), pair.b.t().to(torch::kFloat).contiguous());
    layers.push_back({io::peft_module_name(*canonical, text_only), config.lora.rank, config.lora.alpha});
  }
  const std::string architecture = base.family + (text_only ? "ForCausalLM" : "ForConditionalGeneration");
  const io::Json json = adapter_config_json(config.lora, layers, config.base_model, architecture);
  io::NewFolder out(output);
  io::save_safetensors((out.path() / kAdapterWeights).string(), tensors);
  io::write_file_atomically((out.path() / kMlxConfig).string(), json.dump(2) + "\n");
  out.commit();
  return static_cast<std::int64_t>(layers.size());
}

}  // namespace bezel::lora
