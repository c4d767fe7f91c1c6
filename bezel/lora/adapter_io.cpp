#include "bezel/lora/adapter_io.h"

#include <algorithm>
#include <filesystem>
#include <map>

#include <ATen/ATen.h>

#include "bezel/error.h"
#include "bezel/io/atomic_write.h"
#include "bezel/io/key_map.h"
#include "bezel/io/tensor_io.h"
#include "bezel/lora/match.h"

namespace bezel::lora {
namespace {

constexpr std::string_view kWeights = "adapter_model.safetensors";
constexpr std::string_view kConfig = "adapter_config.json";

std::string in_folder(const std::string& folder, std::string_view file) {
  return (std::filesystem::path(folder) / file).string();
}

void check_tensor(const std::string& path, const std::string& key, const torch::Tensor& tensor,
                  const std::vector<std::int64_t>& expected, const char* axes) {
  const auto type = tensor.scalar_type();
  if (type != torch::kFloat && type != torch::kBFloat16 && type != torch::kHalf)
    throw Error(path, ": tensor '", key, "' is ", type, ", expected float32, bfloat16 or float16");
  if (tensor.sizes() != torch::IntArrayRef(expected))
    throw Error(path, ": tensor '", key, "' has shape ", tensor.sizes(), ", expected ", torch::IntArrayRef(expected),
                " (", axes, "); is it an adapter of another rank or another base model?");
  if (!at::isfinite(tensor).all().item<bool>()) throw Error(path, ": tensor '", key, "' holds NaN or Inf");
}

std::map<std::string, Target> layers_by_name(const torch::nn::Module& model) {
  std::map<std::string, Target> layers;
  for (const Target& layer : linear_layers(model)) layers.emplace(layer.name, layer);
  return layers;
}

// What the config selects and what the file holds must agree: a layer without tensors would be left at its base, and
// PEFT drops a tensor without layer. Towers that the file does not know are left out: plain names of a text adapter
// also fit the other towers.
void check_coverage(const std::string& path, const LoadedAdapter& adapter, const std::map<std::string, Target>& layers,
                    const std::map<std::string, StoredPair>& pairs) {
  const ModulePattern& wanted = adapter.config.target_modules;
  if (wanted.kind == ModulePattern::Kind::kDefault) return;
  const ModuleMatcher targets(wanted, "target_modules");
  const ModuleMatcher excluded(adapter.config.exclude_modules, "exclude_modules");
  const auto is_adapted = [&](Tower tower) {
    return std::ranges::any_of(adapter.selection.targets, [&](const Target& t) { return t.tower == tower; });
  };
  for (const auto& [name, layer] : layers) {
    const auto names = spellings(name, adapter.selection.text_only);
    const bool selected = targets.matches(names) && !excluded.matches(names);
    const auto pair = pairs.find(name);
    if (pair != pairs.end() && !selected)
      throw Error(path, ": tensor '", pair->second.a_key, "' belongs to a layer that target_modules in ", kConfig,
                  " does not select");
    if (pair == pairs.end() && selected && is_adapted(layer.tower))
      throw Error(path, ": no tensor for '", names.back(), "', which target_modules in ", kConfig, " selects");
  }
}

nn::Adapter make_adapter(const Target& target, const StoredPair& pair, const LoraConfig& config) {
  const auto device = target.layer->weight ? target.layer->weight->device() : torch::Device(torch::kCPU);
  // A copy: the file is mapped read-only, and training writes.
  const auto own = [&](const torch::Tensor& tensor) {
    return tensor.to(device, torch::kFloat, /*non_blocking=*/false, /*copy=*/true).requires_grad_();
  };
  return {
      .a = own(pair.a), .b = own(pair.b), .scale = config.scale(target.rank, target.alpha), .dropout = config.dropout};
}

}  // namespace

std::map<std::string, StoredPair> read_pairs(const std::string& path) {
  std::map<std::string, StoredPair> pairs;
  for (auto& [key, tensor] : io::load_safetensors(path)) {
    const auto parsed = io::parse_adapter_key(key);
    const bool is_a = parsed && parsed->part == "lora_A";
    if (!is_a && !(parsed && parsed->part == "lora_B"))
      throw Error(path, ": tensor '", key,
                  "' is not supported; expected base_model.model.<module>.lora_A.weight or "
                  ".lora_B.weight");
    StoredPair& pair = pairs[parsed->module];
    std::string& seen = is_a ? pair.a_key : pair.b_key;
    if (!seen.empty()) throw Error(path, ": tensors '", seen, "' and '", key, "' are two spellings of one tensor");
    seen = key;
    (is_a ? pair.a : pair.b) = tensor;
    if (is_a) pair.stored = parsed->stored;
  }
  if (pairs.empty()) throw Error(path, ": holds no tensor");
  for (const auto& [name, pair] : pairs) {
    if (pair.b_key.empty()) throw Error(path, ": tensor '", pair.a_key, "' has no lora_B beside it");
    if (pair.a_key.empty()) throw Error(path, ": tensor '", pair.b_key, "' has no lora_A beside it");
  }
  return pairs;
}

std::string find_weights(const std::string& folder) {
  const std::string path = in_folder(folder, kWeights);
  if (std::filesystem::exists(path)) return path;
  if (std::filesystem::exists(in_folder(folder, "adapter_model.bin")))
    throw Error(folder,
                ": holds adapter_model.bin only, a pickle, which can run code and is never read; save it again "
                "with PEFT's save_pretrained, which writes ",
                kWeights);
  throw Error(ErrorKind::kIo, path, ": no such file; is this a PEFT adapter folder?");
}

void save_adapter(const std::string& folder, const Selection& selection, const LoraConfig& config,
                  const AdapterBase& base) {
  std::vector<std::pair<std::string, torch::Tensor>> tensors;
  std::vector<AdaptedLayer> layers;
  for (const Target& target : selection.targets) {
    TORCH_CHECK(target.layer->adapter, target.name, " has no adapter to save");
    const nn::Adapter& adapter = *target.layer->adapter;
    tensors.emplace_back(io::adapter_key(target.name, "lora_A", selection.text_only), adapter.a.detach());
    tensors.emplace_back(io::adapter_key(target.name, "lora_B", selection.text_only), adapter.b.detach());
    layers.push_back({io::peft_module_name(target.name, selection.text_only), target.rank, target.alpha});
  }
  io::save_safetensors(in_folder(folder, kWeights), tensors);
  const io::Json json = adapter_config_json(config, layers, base.path, base.architecture);
  io::write_file_atomically(in_folder(folder, kConfig), json.dump(2) + "\n");
}

LoadedAdapter load_adapter(torch::nn::Module& model, const std::string& folder, bool text_only) {
  const AdapterConfig file = read_adapter_config(in_folder(folder, kConfig));
  const std::string path = find_weights(folder);
  LoadedAdapter adapter{
      .config = file.lora, .selection = {.targets = {}, .text_only = text_only}, .base_model = file.base_model};
  const auto pairs = read_pairs(path);
  const auto layers = layers_by_name(model);
  const PatternTable<std::int64_t> ranks(file.lora.rank_pattern, "rank_pattern");
  const PatternTable<double> alphas(file.lora.alpha_pattern, "alpha_pattern");
  for (const auto& [name, pair] : pairs) {
    const auto found = layers.find(name);
    if (found == layers.end())
      throw Error(path, ": tensor '", pair.a_key,
                  "' fits no linear layer of this model; is it an adapter of another "
                  "base model (",
                  file.base_model, ")?");
    Target target = found->second;
    std::vector<std::string> names = spellings(name, text_only);
    names.push_back(pair.stored);  // the last one counts first
    target.rank = ranks.find(names, file.lora.rank);
    target.alpha = alphas.find(names, file.lora.alpha);
    check_tensor(path, pair.a_key, pair.a, {target.rank, target.layer->in_features}, "rank, in");
    check_tensor(path, pair.b_key, pair.b, {target.layer->out_features, target.rank}, "out, rank");
    adapter.selection.targets.push_back(std::move(target));
  }
  check_coverage(path, adapter, layers, pairs);
  for (const Target& target : adapter.selection.targets)
    target.layer.ptr()->adapter = make_adapter(target, pairs.at(target.name), adapter.config);
  return adapter;
}

}  // namespace bezel::lora
