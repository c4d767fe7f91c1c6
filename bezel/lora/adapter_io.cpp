#include "bezel/lora/adapter_io.h"

#include <algorithm>
#include <filesystem>
#include <map>

#include <ATen/ATen.h>

#include "bezel/error.h"
#include "bezel/io/atomic_write.h"
#include "bezel/io/foreign_name.h"
#include "bezel/io/key_map.h"
#include "bezel/io/tensor_io.h"
#include "bezel/lora/match.h"
#include "bezel/nn/weight_site.h"

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

std::string shown(const std::vector<std::string>& names) {
  constexpr std::size_t kShown = 3;
  std::string text;
  for (std::size_t i = 0; i < std::min(names.size(), kShown); ++i) text += (i > 0 ? ", " : "") + names[i];
  return text + (names.size() > kShown ? ", …" : "");
}

// Names under which PEFT may know a module: those of both classes of the model.
std::vector<std::string> all_spellings(const std::string& name) {
  std::vector<std::string> names = spellings(name, false);
  for (std::string& other : spellings(name, true))
    if (std::ranges::find(names, other) == names.end()) names.push_back(std::move(other));
  return names;
}

// PEFT drops a tensor whose layer target_modules does not select. A selected layer without tensors stays at its base
// there too; towers that the file does not know are not counted: plain names of a text adapter also fit the others.
void check_coverage(const std::string& path, LoadedAdapter& adapter, const std::map<std::string, Target>& layers,
                    const std::map<std::string, StoredPair>& pairs) {
  if (adapter.config.target_modules.kind == ModulePattern::Kind::kDefault) return;
  const ModuleMatcher targets(adapter.config);
  const ModuleMatcher excluded(adapter.config.exclude_modules, "exclude_modules");
  const auto is_adapted = [&](Tower tower) {
    return std::ranges::any_of(adapter.selection.targets, [&](const Target& t) { return t.tower == tower; });
  };
  std::vector<std::string> without;
  for (const auto& [name, layer] : layers) {
    const auto names = all_spellings(name);
    const bool selected = targets.matches(names) && !excluded.matches(names);
    const auto pair = pairs.find(name);
    if (pair != pairs.end() && !selected)
      throw Error(path, ": tensor '", pair->second.a_key, "' belongs to a layer that target_modules in ", kConfig,
                  " does not select");
    if (pair == pairs.end() && selected && is_adapted(layer.tower)) without.push_back(name);
  }
  if (!without.empty())
    adapter.notes.push_back(path + ": no tensors for " + std::to_string(without.size()) +
                            " layers that target_modules selects, which stay as in the base: " + shown(without));
}

// Keys and values of an attention that computes none: it has other projections, and no such one.
bool lacks_projection(const std::map<std::string, Target>& layers, const std::string& name) {
  if (!name.ends_with(".self_attn.k_proj") && !name.ends_with(".self_attn.v_proj")) return false;
  const std::string prefix = name.substr(0, name.rfind('.') + 1);
  const auto next = layers.lower_bound(prefix);
  return next != layers.end() && next->first.starts_with(prefix);
}

[[noreturn]] void refuse_key(const std::string& path, const std::string& key, const std::string& module,
                             const std::string& base) {
  constexpr const char* kMerge = "merge the adapter into its base with PEFT (merge_and_unload) and take the result";
  if (module.find(".experts") != std::string::npos)
    throw Error(path, ": tensor '", key, "' is LoRA on experts, which stay frozen in Bezel; ", kMerge);
  if (module == "lm_head" || module.ends_with(".embed_tokens") || module.ends_with(".embed_tokens_per_layer"))
    throw Error(path, ": tensor '", key, "' is LoRA on the ", module == "lm_head" ? "head" : "embeddings",
                ", which Bezel does not adapt; ", kMerge);
  if (const std::string advice = io::foreign_name_advice(module + ".weight"); !advice.empty())
    throw Error(path, ": tensor '", key, "' fits no linear layer of this model, with ", advice);
  throw Error(path, ": tensor '", key, "' fits no linear layer of this model; is it an adapter of another base model (",
              base, ")?");
}

// The unified model's projector in the spelling of its checkpoint, which is the name of another model's.
void use_unified_names(const std::map<std::string, Target>& layers, std::map<std::string, StoredPair>& pairs) {
  std::vector<std::string> renamed;
  for (const auto& [name, pair] : pairs)
    if (const std::string unified = io::unified_name(name);
        unified != name && layers.contains(unified) && !pairs.contains(unified))
      renamed.push_back(name);
  for (const std::string& name : renamed) {
    auto node = pairs.extract(name);
    node.key() = io::unified_name(name);
    pairs.insert(std::move(node));
  }
}

// Takes out of `pairs` what fits no layer and means nothing.
void drop_unused(const std::map<std::string, Target>& layers, const std::string& path,
                 std::map<std::string, StoredPair>& pairs, LoadedAdapter& adapter) {
  std::vector<std::string> unused;
  for (const auto& [name, pair] : pairs) {
    if (layers.contains(name)) continue;
    if (!lacks_projection(layers, name)) refuse_key(path, pair.a_key, name, adapter.base_model);
    unused.push_back(name);
  }
  for (const std::string& name : unused) pairs.erase(name);
  if (pairs.empty())
    throw Error(path, ": adapts only keys and values of layers that compute none of their own; nothing is left of it");
  if (!unused.empty())
    adapter.notes.push_back(path + ": LoRA on projections that the model does not have is passed over, as PEFT does: " +
                            std::to_string(unused.size()) + " (" + shown(unused) +
                            ") of layers that read another layer's keys and values, or whose keys are the values");
}

std::shared_ptr<const quant::Weight> matrix_of(const torch::nn::Module& model, const std::string& module) {
  for (const nn::WeightSite& site : nn::weight_sites(model))
    if (site.module == module && site.role() != nn::MatrixRole::kExperts) return site.weight();
  // A head that is tied to the embeddings.
  return module == "lm_head" ? matrix_of(model, "model.language_model.embed_tokens") : nullptr;
}

bool equals(const quant::Weight& base, const torch::Tensor& saved) {
  if (saved.sizes() != torch::IntArrayRef(base.shape()) || !saved.is_floating_point()) return false;
  constexpr std::int64_t kRows = 4096;
  for (std::int64_t begin = 0; begin < saved.size(0); begin += kRows) {
    const std::int64_t end = std::min(begin + kRows, saved.size(0));
    const auto rows =
        base.rows(at::arange(begin, end, at::TensorOptions(at::kLong).device(base.device())), torch::kFloat);
    if (!at::equal(rows.cpu(), saved.slice(0, begin, end).to(torch::kFloat))) return false;
  }
  return true;
}

// Matrices saved beside LoRA change nothing where they are the base's. On `meta` nothing can be compared.
void check_saved(const torch::nn::Module& model, const std::string& path, const std::vector<SavedMatrix>& saved,
                 const std::vector<std::string>& modules_to_save, LoadedAdapter& adapter) {
  std::string asked;
  for (const std::string& name : modules_to_save) asked += (asked.empty() ? "" : ", ") + name;
  for (const SavedMatrix& matrix : saved) {
    const auto base = matrix_of(model, matrix.module);
    if (!base) refuse_key(path, matrix.key, matrix.module, adapter.base_model);
    if (base->device().is_meta()) continue;
    if (!equals(*base, matrix.tensor))
      throw Error(path, ": tensor '", matrix.key, "' ", matrix.tensor.sizes(), " differs from the base's ",
                  torch::IntArrayRef(base->shape()), ": it was trained or resized beside LoRA",
                  asked.empty() ? "" : " (modules_to_save: " + asked + ")",
                  ", which Bezel does not do; merge the adapter into its base with PEFT and take the result");
    adapter.notes.push_back(path + ": '" + matrix.key + "' equals the base's and is passed over");
  }
  if (saved.empty() && !asked.empty())
    throw Error(path, ": ", kConfig, " names modules_to_save (", asked,
                "), of which no tensor is here; set it to null "
                "if nothing was trained beside LoRA");
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

[[noreturn]] void refuse_tensor(const std::string& path, const std::string& key) {
  const auto has = [&](const char* part) { return key.find(part) != std::string::npos; };
  const char* what = "is not supported";
  if (has("lora_embedding_")) what = "is LoRA on embeddings, which Bezel does not adapt";
  if (has("trainable_tokens")) what = "holds rows of the embeddings trained beside LoRA, which Bezel does not read";
  if (has("lora_magnitude_vector")) what = "is of DoRA, which is not supported";
  throw Error(path, ": tensor '", key, "' ", what,
              "; expected base_model.model.<module>.lora_A.weight or .lora_B.weight. Merge the adapter into its base "
              "with PEFT to use it");
}

// adapter_config.json of a folder; says what the folder is if there is none.
std::string config_path(const std::string& folder) {
  namespace fs = std::filesystem;
  std::error_code error;
  std::string path = in_folder(folder, kConfig);
  if (fs::exists(path, error)) return path;
  const auto holds = [&](const char* name) { return fs::exists(fs::path(folder) / name, error); };
  const auto fail = [&](const std::string& what) { throw Error(ErrorKind::kIo, folder, ": ", what); };
  if (!fs::exists(folder, error)) fail("no such folder; expected a PEFT adapter folder on this machine");
  if (!fs::is_directory(folder, error))
    fail("not a folder; expected the folder with adapter_config.json and " + std::string(kWeights));
  if (holds("adapters.safetensors") || holds("adapters.npz"))
    fail("an adapter of MLX; `bezel convert --adapter … --to peft --output D` makes one that is read here");
  if (holds("config.json"))
    fail("holds a checkpoint, not an adapter: there is no adapter_config.json; name it as the model");
  fail("holds no adapter_config.json; expected a PEFT adapter folder");
  return path;
}

}  // namespace

std::map<std::string, StoredPair> read_pairs(const std::string& path, std::vector<SavedMatrix>* saved) {
  std::map<std::string, StoredPair> pairs;
  for (auto& [key, tensor] : io::load_safetensors(path)) {
    const auto parsed = io::parse_adapter_key(key);
    const bool is_a = parsed && parsed->part == "lora_A";
    if (!is_a && !(parsed && parsed->part == "lora_B")) {
      const auto module = io::saved_module_of(key);
      if (!module || saved == nullptr) refuse_tensor(path, key);
      saved->push_back({key, *module, tensor});
      continue;
    }
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

void check_pair(const StoredPair& pair, const std::string& source) {
  if (pair.a.dim() != 2 || pair.b.dim() != 2 || pair.a.size(0) != pair.b.size(1))
    throw Error(source, ": tensors '", pair.a_key, "' ", pair.a.sizes(), " and '", pair.b_key, "' ", pair.b.sizes(),
                " are no [rank, in] and [out, rank]");
  for (const auto& [key, tensor] : {std::pair(&pair.a_key, &pair.a), std::pair(&pair.b_key, &pair.b)})
    if (!at::isfinite(*tensor).all().item<bool>()) throw Error(source, ": tensor '", *key, "' holds NaN or Inf");
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
  const io::Json json = adapter_config_json(config, layers, base.path, base.architecture, base.image_attention);
  io::write_file_atomically(in_folder(folder, kConfig), json.dump(2) + "\n");
}

LoraConfig read_lora_config(const std::string& folder) {
  LoraConfig config = read_adapter_config(config_path(folder), {.saved_modules = true}).lora;
  std::vector<SavedMatrix> saved;
  const auto pairs = read_pairs(find_weights(folder), &saved);
  std::erase_if(config.towers, [&](Tower tower) {
    return std::ranges::none_of(pairs, [&](const auto& item) {
      const gemma4::Part* part = gemma4::place_of(item.first).part;
      return part != nullptr && part->tower == tower;
    });
  });
  return config;
}

LoadedAdapter load_adapter(torch::nn::Module& model, const std::string& folder, bool text_only) {
  const AdapterConfig file = read_adapter_config(config_path(folder), {.saved_modules = true});
  const std::string path = find_weights(folder);
  LoadedAdapter adapter{.config = file.lora,
                        .selection = {.targets = {}, .text_only = text_only},
                        .base_model = file.base_model,
                        .image_attention = file.image_attention,
                        .notes = {}};
  std::vector<SavedMatrix> saved;
  auto pairs = read_pairs(path, &saved);
  const auto layers = layers_by_name(model);
  use_unified_names(layers, pairs);
  drop_unused(layers, path, pairs, adapter);
  check_saved(model, path, saved, file.modules_to_save, adapter);
  const PatternTable<std::int64_t> ranks(file.lora.rank_pattern, "rank_pattern");
  const PatternTable<double> alphas(file.lora.alpha_pattern, "alpha_pattern");
  for (const auto& [name, pair] : pairs) {
    Target target = layers.at(name);
    std::vector<std::string> names = all_spellings(name);
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
