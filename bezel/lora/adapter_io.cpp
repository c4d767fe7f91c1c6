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
#include "bezel/lora/expert_keys.h"
#include "bezel/lora/file_names.h"
#include "bezel/lora/match.h"
#include "bezel/lora/pissa.h"
#include "bezel/nn/random_keys.h"
#include "bezel/nn/weight_site.h"

namespace bezel::lora {
namespace {

constexpr std::string_view kWeights = kAdapterWeights;
constexpr std::string_view kConfig = kAdapterConfig;

std::string in_folder(const std::string& folder, std::string_view file) {
  return (std::filesystem::path(folder) / file).string();
}

void check_tensor(const std::string& path, const std::string& key, const torch::Tensor& tensor,
                  const std::vector<std::int64_t>& expected, const std::string& axes) {
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
  for (const Target& layer : adaptable_layers(model)) layers.emplace(layer.name, layer);
  return layers;
}

std::string shown(const std::vector<std::string>& names) {
  constexpr std::size_t kShown = 3;
  std::string text;
  for (std::size_t i = 0; i < std::min(names.size(), kShown); ++i) text += (i > 0 ? ", " : "") + names[i];
  return text + (names.size() > kShown ? ", …" : "");
}

// PEFT drops a tensor whose layer target_modules does not select. A selected layer without tensors stays at its base
// there too; towers that the file does not know are not counted: plain names of a text adapter also fit the others.
void check_coverage(const std::string& path, LoadedAdapter& adapter, const std::map<std::string, Target>& layers,
                    const std::map<std::string, StoredPair>& pairs) {
  const bool by_default = adapter.config.target_modules.kind == ModulePattern::Kind::kDefault;
  const ModuleMatcher targets(adapter.config);
  const ModuleMatcher parameters(ModulePattern::from_names(adapter.config.target_parameters), "target_parameters");
  const ModuleMatcher excluded(adapter.config.exclude_modules, "exclude_modules");
  const auto is_adapted = [&](Tower tower) {
    return std::ranges::any_of(adapter.selection.targets, [&](const Target& t) { return t.tower == tower; });
  };
  std::vector<std::string> without;
  for (const auto& [name, layer] : layers) {
    const auto names = all_spellings(name);
    if (layer.stack == nullptr && by_default) continue;
    const bool selected =
        layer.stack != nullptr ? parameters.matches(names) : targets.matches(names) && !excluded.matches(names);
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

// Keys and values of an attention without k_proj and v_proj of its own.
bool lacks_projection(const std::map<std::string, Target>& layers, const std::string& name) {
  if (!name.ends_with(".self_attn.k_proj") && !name.ends_with(".self_attn.v_proj")) return false;
  const std::string prefix = name.substr(0, name.rfind('.') + 1);
  const auto next = layers.lower_bound(prefix);
  return next != layers.end() && next->first.starts_with(prefix);
}

[[noreturn]] void refuse_key(const std::string& path, const std::string& key, const std::string& module,
                             const std::string& base) {
  constexpr const char* kMerge = "merge the adapter into its base with PEFT (merge_and_unload) and take the result";
  if (is_expert_matrix(module))
    throw Error(path, ": tensor '", key,
                "' is LoRA on experts, and this model has none; is it an adapter of another base "
                "model (",
                base, ")?");
  if (module.find(".experts") != std::string::npos)
    throw Error(path, ": tensor '", key, "' is LoRA on experts, but target_parameters in ", kConfig,
                " does not say of which matrix; expected [experts.gate_up_proj, experts.down_proj] or one of them");
  if (module.ends_with(".embed_tokens_per_layer"))
    throw Error(path, ": tensor '", key, "' is of the embeddings of each layer, which stay frozen in Bezel; ", kMerge);
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
  if (pairs.empty() && !unused.empty())
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

// The table of the model that a tensor belongs to.
TableTarget table_of(const std::vector<TableTarget>& known, const std::string& module, TableTarget::Form form) {
  const auto found = std::ranges::find(known, module, &TableTarget::name);
  TORCH_CHECK(found != known.end(), module, " is no table");
  TableTarget table = *found;
  table.form = form;
  table.table = std::make_shared<nn::TrainedTable>(table.empty_table());
  return table;
}

bool is_table(const std::vector<TableTarget>& known, const std::string& module) {
  return std::ranges::find(known, module, &TableTarget::name) != known.end();
}

// A copy: the file is mapped read-only, and training writes.
torch::Tensor own(const torch::Tensor& tensor, const std::shared_ptr<const quant::Weight>& weight) {
  const auto device = weight ? weight->device() : torch::Device(torch::kCPU);
  return tensor.to(device, torch::kFloat, /*non_blocking=*/false, /*copy=*/true).requires_grad_();
}

void add_rows(const std::string& path, const SavedMatrix& saved, const std::vector<TableTarget>& known,
              LoadedAdapter& adapter) {
  const auto& indices = adapter.config.trainable_token_indices;
  if (!is_table(known, saved.module)) refuse_key(path, saved.key, saved.module, adapter.base_model);
  const auto names = all_spellings(saved.module);
  const auto found = std::ranges::find_if(indices, [&](const auto& item) { return is_called(names, item.first); });
  if (found == indices.end())
    throw Error(path, ": tensor '", saved.key, "' holds trained rows, but trainable_token_indices in ", kConfig,
                " does not say of which tokens");
  TableTarget table = table_of(known, saved.module, TableTarget::Form::kRows);
  table.ids = table.table->ids = found->second;
  for (const std::int64_t id : table.ids)
    if (id < 0 || id >= table.shape[0])
      throw Error(path, ": trainable_token_indices in ", kConfig, ": token ", id, " lies outside the ", table.shape[0],
                  " rows of ", saved.module, "; was it a new token? Then the tokenizer.json that has it belongs in ",
                  "the adapter's folder");
  check_tensor(path, saved.key, saved.tensor, {static_cast<std::int64_t>(table.ids.size()), table.shape[1]},
               "tokens, width");
  table.table->rows = own(saved.tensor, table.base);
  adapter.selection.tables.push_back(std::move(table));
}

// A norm saved beside LoRA. PEFT's short names reach those of the towers too, which nothing has trained as a rule.
bool add_norm(const std::string& path, const SavedMatrix& saved, std::vector<NormTarget>& norms,
              LoadedAdapter& adapter) {
  const auto found = std::ranges::find(norms, saved.module, &NormTarget::name);
  if (found == norms.end()) return false;
  const torch::Tensor& base = found->norm->stored;
  check_tensor(path, saved.key, saved.tensor, {found->parameters()}, "width");
  if (!found->is_of_decoder()) {
    if (base.defined() && !base.is_meta() && !at::equal(base.cpu(), saved.tensor.to(torch::kFloat)))
      throw Error(path, ": tensor '", saved.key,
                  "' is a trained norm outside the decoder, which stays frozen in Bezel; ",
                  "merge the adapter into its base with PEFT and take the result");
    adapter.notes.push_back(path + ": '" + saved.key + "' equals the base's and is passed over");
    return true;
  }
  const auto& asked = adapter.config.modules_to_save;
  if (std::ranges::none_of(asked, [&](const std::string& name) { return is_norm_called(saved.module, name); }))
    throw Error(path, ": tensor '", saved.key, "' is the weight of a norm, but modules_to_save in ", kConfig,
                " does not name it");
  const auto device = base.defined() ? base.device() : torch::Device(torch::kCPU);
  found->weight = saved.tensor.to(device, torch::kFloat, /*non_blocking=*/false, /*copy=*/true).requires_grad_();
  adapter.selection.norms.push_back(*found);
  return true;
}

// A matrix saved beside LoRA changes nothing where it is the base's. On `meta` nothing can be compared.
void add_whole(const std::string& path, const SavedMatrix& saved, const torch::nn::Module& model,
               const std::vector<TableTarget>& known, std::vector<NormTarget>& norms, LoadedAdapter& adapter) {
  if (add_norm(path, saved, norms, adapter)) return;
  const auto base = matrix_of(model, saved.module);
  if (!base) refuse_key(path, saved.key, saved.module, adapter.base_model);
  if (base->device().is_meta()) return;
  if (equals(*base, saved.tensor)) {
    adapter.notes.push_back(path + ": '" + saved.key + "' equals the base's and is passed over");
    return;
  }
  if (!is_table(known, saved.module) || !is_called_any(all_spellings(saved.module), adapter.config.modules_to_save))
    throw Error(path, ": tensor '", saved.key, "' ", saved.tensor.sizes(), " differs from the base's ",
                torch::IntArrayRef(base->shape()), ": it was trained or resized beside LoRA",
                ", but modules_to_save in ", kConfig, " does not name it, or Bezel trains no such module whole",
                "; merge the adapter into its base with PEFT and take the result");
  TableTarget table = table_of(known, saved.module, TableTarget::Form::kWhole);
  check_tensor(path, saved.key, saved.tensor, table.shape, "vocabulary, width");
  table.table->whole = own(saved.tensor, table.base);
  adapter.selection.tables.push_back(std::move(table));
}

void add_saved(torch::nn::Module& model, const std::string& path, const std::vector<SavedMatrix>& saved,
               const std::vector<TableTarget>& known, LoadedAdapter& adapter) {
  std::vector<NormTarget> norms = norms_of(model);
  for (const SavedMatrix& matrix : saved)
    matrix.is_rows ? add_rows(path, matrix, known, adapter) : add_whole(path, matrix, model, known, norms, adapter);
  std::string asked;
  for (const std::string& name : adapter.config.modules_to_save) asked += (asked.empty() ? "" : ", ") + name;
  if (std::ranges::all_of(saved, &SavedMatrix::is_rows) && !asked.empty())
    throw Error(path, ": ", kConfig, " names modules_to_save (", asked,
                "), of which no tensor is here; set it to null "
                "if nothing was trained beside LoRA");
}

// LoRA on the embeddings and the head, out of `pairs`.
void take_tables(const std::string& path, const std::vector<TableTarget>& known,
                 std::map<std::string, StoredPair>& pairs, LoadedAdapter& adapter) {
  const LoraConfig& config = adapter.config;
  const PatternTable<std::int64_t> ranks(config.rank_pattern, "rank_pattern");
  const PatternTable<double> alphas(config.alpha_pattern, "alpha_pattern");
  for (const TableTarget& one : known) {
    const auto found = pairs.find(one.name);
    if (found == pairs.end()) continue;
    const StoredPair& pair = found->second;
    TableTarget table = table_of(known, one.name, TableTarget::Form::kLowRank);
    std::vector<std::string> names = all_spellings(one.name);
    if (pair.magnitude.defined() || config.use_dora)
      throw Error(path, ": tensor '", pair.a_key, "' is of DoRA on ", one.name,
                  ", which is not built; merge the adapter");
    if (!ModuleMatcher(config).matches(names))
      throw Error(path, ": tensor '", pair.a_key, "' belongs to a layer that target_modules in ", kConfig,
                  " does not select");
    names.push_back(pair.stored);
    table.rank = ranks.find(names, config.rank);
    table.alpha = alphas.find(names, config.alpha);
    const std::int64_t rows = table.shape[0], width = table.shape[1];
    const bool embedding = table.table->is_embedding;
    if (embedding != pair.is_embedding)
      throw Error(path, ": tensor '", pair.a_key, "': expected ", embedding ? "lora_embedding_A" : "lora_A.weight",
                  " of ", one.name);
    check_tensor(path, pair.a_key, pair.a, {table.rank, embedding ? rows : width}, "rank, in");
    check_tensor(path, pair.b_key, pair.b, {embedding ? width : rows, table.rank}, "out, rank");
    table.table->a = own(pair.a, table.base);
    table.table->b = own(pair.b, table.base);
    table.table->scale = config.scale(table.rank, table.alpha);
    table.table->dropout = embedding ? 0.0 : config.dropout;
    adapter.selection.tables.push_back(std::move(table));
    pairs.erase(found);
  }
}

// PiSSA as PEFT trains it: A and B over a base without what they began as, which PEFT finds anew when it loads them.
// Here it becomes LoRA of twice the rank over the base as it is.
void unfold_pissa(Target& target, StoredPair& pair, const std::string& path, const LoraConfig& config) {
  const auto& weight = target.weight();
  if (target.stack != nullptr || target.dora)
    throw Error(path, ": tensor '", pair.a_key, "': PiSSA on experts or with DoRA is not read; merge the adapter");
  if (weight && !is_dense(*weight))
    throw Error(path, ": init_lora_weights in ", kConfig,
                " is pissa, whose directions are those of dense weights, and '", target.name, "' is ",
                weight->storage(), "; load the base dense");
  const double scale = config.scale(target.rank, target.alpha);
  torch::Tensor a = at::zeros_like(pair.a, torch::kFloat), b = at::zeros_like(pair.b, torch::kFloat);
  if (weight && !weight->device().is_meta())
    std::tie(a, b) = pissa_factors(*weight, target.rank, scale, *parse_pissa(config.init_lora_weights));
  pair.a = at::cat({pair.a.to(a.device(), torch::kFloat), a});
  pair.b = at::cat({pair.b.to(b.device(), torch::kFloat), b.neg()}, 1);
  target.alpha = doubled_alpha(target.alpha, config.use_rslora);
  target.rank *= 2;
}

nn::Adapter make_adapter(const Target& target, const StoredPair& pair, const LoraConfig& config) {
  const auto& weight = target.weight();
  nn::Adapter adapter{.a = own(pair.a, weight),
                      .b = own(pair.b, weight),
                      .scale = config.scale(target.rank, target.alpha),
                      .dropout = config.dropout};
  adapter.site = nn::site_key(target.name);
  if (pair.magnitude.defined()) adapter.magnitude = own(pair.magnitude, weight);
  return adapter;
}

[[noreturn]] void refuse_tensor(const std::string& path, const std::string& key) {
  const auto has = [&](const char* part) { return key.find(part) != std::string::npos; };
  const char* what = "is not supported";
  if (has("trainable_tokens")) what = "holds rows of the embeddings trained beside LoRA, which have no form here";
  throw Error(path, ": tensor '", key, "' ", what,
              "; expected base_model.model.<module>.lora_A.weight or .lora_B.weight. Merge the adapter into its base "
              "with PEFT to use it");
}

// The tensors of one adapted layer.
struct Part {
  std::string_view name;
  std::string StoredPair::*key;
  torch::Tensor StoredPair::*tensor;
  bool is_embedding = false;
};
constexpr Part kParts[] = {{"lora_A", &StoredPair::a_key, &StoredPair::a},
                           {"lora_B", &StoredPair::b_key, &StoredPair::b},
                           {"lora_embedding_A", &StoredPair::a_key, &StoredPair::a, true},
                           {"lora_embedding_B", &StoredPair::b_key, &StoredPair::b, true},
                           {"lora_magnitude_vector", &StoredPair::magnitude_key, &StoredPair::magnitude}};

const Part* find_part(std::string_view name) {
  const Part* part = std::ranges::find(kParts, name, &Part::name);
  return part == std::end(kParts) ? nullptr : part;
}

// DoRA has a magnitude for every layer, LoRA has none.
void check_magnitude(const std::string& path, const StoredPair& pair, const Target& target) {
  if (!target.dora && pair.magnitude.defined())
    throw Error(path, ": tensor '", pair.magnitude_key, "' is of DoRA, but use_dora in ", kConfig, " is off");
  if (target.dora && !pair.magnitude.defined())
    throw Error(path, ": tensor '", pair.a_key, "' has no lora_magnitude_vector beside it, but use_dora in ", kConfig,
                " is on");
  if (target.dora) check_tensor(path, pair.magnitude_key, pair.magnitude, {target.layer->out_features}, "out");
}

// adapter_config.json of a folder; says what the folder is if the file is missing.
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
    const Part* part = parsed ? find_part(parsed->part) : nullptr;
    if (part == nullptr) {
      const bool is_rows = parsed && parsed->part == "token_adapter.trainable_tokens_delta";
      const auto module = is_rows ? std::optional(parsed->module) : io::saved_module_of(key);
      if (!module || saved == nullptr) refuse_tensor(path, key);
      saved->push_back({key, *module, tensor, is_rows});
      continue;
    }
    StoredPair& pair = pairs[parsed->module];
    std::string& seen = pair.*part->key;
    if (!seen.empty()) throw Error(path, ": tensors '", seen, "' and '", key, "' are two spellings of one tensor");
    seen = key;
    pair.*part->tensor = tensor;
    if (part->tensor == &StoredPair::a) pair.stored = parsed->stored;
    pair.is_embedding = pair.is_embedding || part->is_embedding;
  }
  if (pairs.empty() && (saved == nullptr || saved->empty())) throw Error(path, ": holds no tensor");
  for (const auto& [name, pair] : pairs) {
    if (pair.a_key.empty() && pair.b_key.empty())
      throw Error(path, ": tensor '", pair.magnitude_key, "' has no lora_A and no lora_B beside it");
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

void name_expert_pairs(const LoraConfig& config, std::map<std::string, StoredPair>& pairs) {
  std::vector<std::string> found;
  for (const auto& [name, pair] : pairs)
    if (is_expert_key_module(name)) found.push_back(name);
  for (const std::string& name : found) {
    const auto matrix = expert_matrix_of(name, config);
    if (!matrix) continue;
    auto node = pairs.extract(name);
    node.mapped().stored = stored_matrix_name(node.mapped().stored, *matrix);
    node.key() = *matrix;
    pairs.insert(std::move(node));
  }
}

namespace {

bool is_pissa(const Selection& selection) {
  return std::ranges::any_of(selection.targets,
                             [](const Target& target) { return target.adapter()->start_a.defined(); });
}

}  // namespace

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
    TORCH_CHECK(target.adapter(), target.name, " has no adapter to save");
    const bool doubles = target.adapter()->start_a.defined();
    layers.push_back({io::peft_module_name(target.name, selection.text_only), doubles ? 2 * target.rank : target.rank,
                      doubles ? doubled_alpha(target.alpha, config.use_rslora) : target.alpha,
                      /*is_parameter=*/target.stack != nullptr});
  }
  LoraConfig said = config;
  if (is_pissa(selection)) double_ranks(said);
  said.modules_to_save.clear();
  said.trainable_token_indices.clear();
  for (const TableTarget& table : selection.tables) {
    const std::string name = io::peft_module_name(table.name, selection.text_only);
    if (table.form == TableTarget::Form::kLowRank) layers.push_back({name, table.rank, table.alpha});
    if (table.form == TableTarget::Form::kWhole) said.modules_to_save.push_back(name);
    if (table.form == TableTarget::Form::kRows) said.trainable_token_indices.emplace_back(name, table.ids);
  }
  for (const NormTarget& norm : selection.norms)
    said.modules_to_save.push_back(io::peft_module_name(norm.name, selection.text_only));
  for (const SavedTensor& saved : selection.saved_tensors()) tensors.emplace_back(saved.key, saved.whole());
  io::save_safetensors(in_folder(folder, kWeights), tensors);
  const io::Json json = adapter_config_json(said, layers, base.path, base.architecture, base.image_attention);
  io::write_file_atomically(in_folder(folder, kConfig), json.dump(2) + "\n");
}

LoraConfig read_lora_config(const std::string& folder) {
  LoraConfig config = read_adapter_config(config_path(folder), {.saved_modules = true, .pissa = true}).lora;
  std::vector<SavedMatrix> saved;
  auto pairs = read_pairs(find_weights(folder), &saved);
  name_expert_pairs(config, pairs);
  if (parse_pissa(config.init_lora_weights)) double_ranks(config);
  std::erase_if(config.towers, [&](Tower tower) {
    if (tower == Tower::kLanguage && (!saved.empty() || pairs.contains("lm_head"))) return false;
    return std::ranges::none_of(pairs, [&](const auto& item) {
      if (is_expert_matrix(item.first)) return tower == Tower::kExperts;
      const gemma4::Part* part = gemma4::place_of(item.first).part;
      return part != nullptr && part->tower == tower;
    });
  });
  return config;
}

LoadedAdapter load_adapter(torch::nn::Module& model, const std::string& folder, bool text_only) {
  const AdapterConfig file = read_adapter_config(config_path(folder), {.saved_modules = true, .pissa = true});
  const std::string path = find_weights(folder);
  LoadedAdapter adapter{.config = file.lora,
                        .selection = {.targets = {}, .text_only = text_only},
                        .base_model = file.base_model,
                        .image_attention = file.image_attention,
                        .notes = {}};
  std::vector<SavedMatrix> saved;
  auto pairs = read_pairs(path, &saved);
  name_expert_pairs(file.lora, pairs);
  const auto layers = layers_by_name(model);
  use_unified_names(layers, pairs);
  const std::vector<TableTarget> known = tables_of(model);
  take_tables(path, known, pairs, adapter);
  drop_unused(layers, path, pairs, adapter);
  add_saved(model, path, saved, known, adapter);
  tie_rows(adapter.selection.tables, known);
  const PatternTable<std::int64_t> ranks(file.lora.rank_pattern, "rank_pattern");
  const PatternTable<double> alphas(file.lora.alpha_pattern, "alpha_pattern");
  for (const auto& [name, pair] : pairs) {
    Target target = layers.at(name);
    std::vector<std::string> names = all_spellings(name);
    names.push_back(pair.stored);  // the last one counts first
    target.rank = ranks.find(names, file.lora.rank);
    target.alpha = alphas.find(names, file.lora.alpha);
    const std::string each =
        target.stack == nullptr ? "" : " of each of " + std::to_string(target.num_experts()) + " experts";
    check_tensor(path, pair.a_key, pair.a, target.a_shape(), "rank" + each + ", in");
    check_tensor(path, pair.b_key, pair.b, target.b_shape(), "out, rank" + each);
    target.dora = file.lora.use_dora;
    check_magnitude(path, pair, target);
    if (parse_pissa(file.lora.init_lora_weights)) unfold_pissa(target, pairs.at(name), path, file.lora);
    adapter.selection.targets.push_back(std::move(target));
  }
  check_coverage(path, adapter, layers, pairs);
  if (parse_pissa(file.lora.init_lora_weights)) double_ranks(adapter.config);
  for (const Target& target : adapter.selection.targets)
    if (target.stack != nullptr && file.lora.dropout > 0)
      throw Error(path, ": lora_dropout in ", kConfig, " is ", file.lora.dropout,
                  " beside adapted experts, whose input ", "cannot be dropped out; PEFT refuses it too: write 0 there");
  for (const Target& target : adapter.selection.targets)
    target.adapter() = make_adapter(target, pairs.at(target.name), adapter.config);
  for (const TableTarget& table : adapter.selection.tables) table.put();
  for (const NormTarget& norm : adapter.selection.norms) norm.put();
  return adapter;
}

}  // namespace bezel::lora
