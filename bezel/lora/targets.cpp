#include "bezel/lora/targets.h"

#include <algorithm>
#include <set>
#include <tuple>

#include <ATen/ATen.h>

#include "bezel/error.h"
#include "bezel/io/key_map.h"
#include "bezel/lora/expert_keys.h"
#include "bezel/lora/match.h"
#include "bezel/lora/pissa.h"
#include "bezel/nn/dora.h"
#include "bezel/nn/random_keys.h"
#include "bezel/nn/weight_site.h"

namespace bezel::lora {
namespace {

std::string leaf(const std::string& name) { return name.substr(name.rfind('.') + 1); }

// What is adapted when target_modules is not given.
bool is_default_target(const Target& target) {
  const auto names = target.part->default_targets;
  return std::ranges::find(names, leaf(target.name)) != names.end();
}

template <typename Names>
std::string join(const Names& names) {
  std::string out;
  for (const auto& name : names) out += (out.empty() ? "" : ", ") + std::string(name);
  return out;
}

std::string tower_list(const std::vector<Tower>& towers) {
  std::vector<std::string_view> names;
  for (const Tower tower : towers) names.push_back(tower_name(tower));
  return join(names);
}

// Layers of the model, those that the config may choose from, and how they are spelt.
class Selector {
 public:
  Selector(torch::nn::Module& model, const LoraConfig& config, const SelectOptions& options,
           const std::vector<TableTarget>& tables)
      : config_(config),
        options_(options),
        tables_(tables),
        layers_(linear_layers(model)),
        stacks_(expert_stacks(model)),
        sites_(nn::weight_sites(model)) {
    for (const Target& layer : layers_)
      if (is_chosen(layer.tower)) candidates_.push_back(layer);
    check_towers();
  }

  std::vector<Target> select() const {
    check_every_number();
    std::vector<Target> chosen = config_.adapts_layers() ? select_layers() : std::vector<Target>();
    if (config_.adapts_experts())
      for (const Target& stack : select_stacks()) chosen.push_back(stack);
    check_found(chosen);
    set_ranks(chosen);
    return chosen;
  }

 private:
  bool is_chosen(Tower tower) const { return std::ranges::find(config_.towers, tower) != config_.towers.end(); }
  std::vector<std::string> spell(const Target& layer) const { return spellings(layer.name, options_.text_only); }

  std::vector<Target> select_layers() const {
    const ModuleMatcher targets(config_);
    const ModuleMatcher excluded(config_.exclude_modules, "exclude_modules");
    const bool by_default = config_.target_modules.kind == ModulePattern::Kind::kDefault;
    check_every_name();
    std::vector<Target> chosen;
    bool any_match = false;
    for (const Target& layer : candidates_) {
      const auto names = spell(layer);
      if (!(by_default ? is_default_target(layer) && targets.is_in_layers(names) : targets.matches(names))) continue;
      any_match = true;
      if (!excluded.matches(names) && has_data(layer)) chosen.push_back(layer);
    }
    if (!any_match && tables_.empty()) no_match(config_.target_modules.regex, "regex ");
    return chosen;
  }

  // Without target_parameters both stacks of every layer.
  std::vector<Target> select_stacks() const {
    const ModuleMatcher layers(config_);
    const ModuleMatcher excluded(config_.exclude_modules, "exclude_modules");
    if (config_.dropout > 0)
      throw Error(
          ErrorKind::kConfig, "lora_dropout: got ", config_.dropout,
          " beside adapted experts, whose input cannot be dropped out (PEFT refuses it too); write lora_dropout: "
          "0, or leave the experts frozen");
    if (config_.use_dora)
      throw Error(ErrorKind::kConfig,
                  "use_dora: experts are adapted too (target_parameters, or experts in lora_towers), where PEFT has no "
                  "DoRA; leave them frozen, or write use_dora: false");
    for (const std::string& name : config_.target_parameters)
      if (std::ranges::none_of(stacks_, [&](const Target& stack) { return is_named({name}, stack); }))
        throw Error(ErrorKind::kConfig, "target_parameters: '", name, "' is no stack of experts of this model",
                    stacks_.empty() ? ", which has no experts: take it out"
                                    : "; expected experts.gate_up_proj, experts.down_proj, or full names of them");
    std::vector<Target> chosen;
    for (const Target& stack : stacks_)
      if ((config_.target_parameters.empty() || is_named(config_.target_parameters, stack)) &&
          layers.is_in_layers(spell(stack)) && !excluded.matches(spell(stack)))
        chosen.push_back(stack);
    return chosen;
  }

  bool is_named(const std::vector<std::string>& keys, const Target& stack) const {
    return is_called_any(spell(stack), keys);
  }

  // `projectors` means those of the media that the data holds.
  bool has_data(const Target& layer) const {
    return layer.part->kind != gemma4::PartKind::kProjector || options_.media[*layer.part->media];
  }

  // Every name of a list must find something: a slip of the pen would leave layers untrained in silence.
  void check_every_name() const {
    for (const std::string& name : config_.target_modules.names) {
      const ModuleMatcher one(ModulePattern::from_names({name}), "target_modules");
      const auto is_table = [&](const TableTarget& table) {
        return one.matches(spellings(table.name, options_.text_only));
      };
      if (std::ranges::none_of(candidates_, [&](const Target& layer) { return one.matches(spell(layer)); }) &&
          std::ranges::none_of(tables_, is_table))
        no_match(name, "");
    }
  }

  // As must every number of layers_to_transform.
  void check_every_number() const {
    for (const std::int64_t number : config_.layers_to_transform) {
      LoraConfig one = config_;
      one.layers_to_transform = {number};
      const ModuleMatcher matcher(one);
      const auto is_in = [&](const Target& layer) { return matcher.is_in_layers(spell(layer)); };
      if (std::ranges::none_of(candidates_, is_in) &&
          !(config_.adapts_experts() && std::ranges::any_of(stacks_, is_in)))
        throw Error(ErrorKind::kConfig, "layers_to_transform: no layer of lora_towers [", tower_list(config_.towers),
                    "] has the number ", number, "; layers are counted from 0");
    }
  }

  [[noreturn]] void no_match(const std::string& wanted, const std::string& kind) const {
    const ModuleMatcher matcher(kind.empty() ? ModulePattern::from_names({wanted}) : config_.target_modules,
                                "target_modules");
    std::set<std::string_view> elsewhere;
    for (const Target& layer : layers_)
      if (!is_chosen(layer.tower) && matcher.matches(spell(layer))) elsewhere.insert(tower_name(layer.tower));
    std::vector<std::string> leaves;
    for (const Target& layer : candidates_) leaves.push_back(leaf(layer.name));
    const std::string found = "target_modules: " + kind + "'" + wanted + "' matches no linear layer in lora_towers [" +
                              tower_list(config_.towers) + "]";
    if (!elsewhere.empty())
      throw Error(ErrorKind::kConfig, found, "; it matches in ", join(elsewhere), ": add it to lora_towers?");
    for (const nn::WeightSite& site : sites_)
      if (site.role() != nn::MatrixRole::kLinear && matcher.matches(spellings(site.name(), options_.text_only)))
        throw Error(ErrorKind::kConfig, found, "; ", site.name(), " ", nn::refusal_of(site.role()),
                    site.role() == nn::MatrixRole::kExperts
                        ? ": name it in target_parameters, or add experts to lora_towers"
                        : ", and Bezel adapts linear layers, embed_tokens and lm_head: take the name out");
    throw Error(ErrorKind::kConfig, found, "; nearest: ", join(nearest_names(leaf(wanted), std::move(leaves), 4)));
  }

  void check_towers() const {
    for (const Tower tower : config_.towers) {
      if (std::ranges::any_of(layers_, [&](const Target& layer) { return layer.tower == tower; })) continue;
      if (tower == Tower::kExperts && !stacks_.empty()) continue;
      std::set<std::string_view> present;
      for (const Target& layer : layers_) present.insert(tower_name(layer.tower));
      for (const Target& stack : stacks_) present.insert(tower_name(stack.tower));
      throw Error(ErrorKind::kConfig, "lora_towers: '", tower_name(tower), "' is not in this model; it has ",
                  join(present));
    }
  }

  void check_found(const std::vector<Target>& chosen) const {
    for (const Tower tower : config_.towers) {
      if (std::ranges::any_of(chosen, [&](const Target& layer) { return layer.tower == tower; })) continue;
      if (tower == Tower::kLanguage && !tables_.empty()) continue;
      if (tower != Tower::kExperts && !config_.adapts_layers()) continue;
      if (tower == Tower::kExperts)
        throw Error(ErrorKind::kConfig,
                    "lora_towers: 'experts' is to be adapted, but target_parameters, "
                    "layers_to_transform and exclude_modules leave no stack of it; take the tower out or name some");
      if (tower == Tower::kProjectors && options_.media == input::PerKind<bool>{})
        throw Error(ErrorKind::kConfig,
                    "lora_towers: 'projectors' is adapted, but the data holds neither images nor "
                    "audio clips; take it out or add such data");
      std::vector<std::string> leaves;
      for (const Target& layer : candidates_)
        if (layer.tower == tower) leaves.push_back(leaf(layer.name));
      throw Error(ErrorKind::kConfig, "lora_towers: '", tower_name(tower),
                  "' is to be adapted, but target_modules and exclude_modules leave no layer of it; it has ",
                  join(nearest_names("", std::move(leaves), 8)), "; take the tower out or name some of these");
    }
  }

  void set_ranks(std::vector<Target>& chosen) const {
    const PatternTable<std::int64_t> ranks(config_.rank_pattern, "rank_pattern");
    const PatternTable<double> alphas(config_.alpha_pattern, "alpha_pattern");
    for (Target& layer : chosen) {
      const auto names = spell(layer);
      layer.rank = ranks.find(names, config_.rank);
      layer.alpha = alphas.find(names, config_.alpha);
      layer.dora = config_.use_dora;
    }
  }

  const LoraConfig& config_;
  SelectOptions options_;
  const std::vector<TableTarget>& tables_;  // chosen too
  std::vector<Target> layers_, stacks_;
  std::vector<nn::WeightSite> sites_;
  std::vector<Target> candidates_;  // of the chosen towers
};

}  // namespace

std::vector<TowerCount> Selection::counts() const {
  std::vector<TowerCount> rows;
  for (const Tower tower : kTowers) {
    TowerCount row{.tower = tower};
    for (const Target& target : targets) {
      if (target.tower != tower) continue;
      ++row.layers;
      row.parameters += target.parameters();
    }
    for (const TableTarget& table : tables) {
      if (tower != Tower::kLanguage) break;
      ++row.layers;
      row.parameters += table.parameters();
    }
    for (const NormTarget& norm : norms) {
      if (tower != Tower::kLanguage) break;
      ++row.layers;
      row.parameters += norm.parameters();
    }
    if (row.layers > 0) rows.push_back(row);
  }
  return rows;
}

std::int64_t Selection::parameters() const {
  std::int64_t sum = 0;
  for (const Target& target : targets) sum += target.parameters();
  for (const TableTarget& table : tables) sum += table.parameters();
  for (const NormTarget& norm : norms) sum += norm.parameters();
  return sum;
}

std::vector<torch::Tensor> Selection::tensors() const {
  std::vector<torch::Tensor> all;
  for (const auto& [name, tensor] : named_tensors()) all.push_back(tensor);
  return all;
}

std::vector<std::pair<std::string, torch::Tensor>> Selection::named_tensors() const {
  std::vector<std::pair<std::string, torch::Tensor>> all;
  for (SavedTensor& saved : saved_tensors()) all.emplace_back(std::move(saved.key), std::move(saved.trained));
  return all;
}

std::vector<SavedTensor> Selection::saved_tensors() const {
  std::vector<SavedTensor> all;
  for (const Target& target : targets) {
    TORCH_CHECK(target.adapter(), target.name, " has no adapter yet");
    const nn::Adapter& adapter = *target.adapter();
    const std::string module = key_module(target);
    all.push_back({io::adapter_key(module, "lora_A", text_only), adapter.a, adapter.start_a, 0});
    all.push_back({io::adapter_key(module, "lora_B", text_only), adapter.b, adapter.start_b, 1});
    if (adapter.magnitude.defined())
      all.push_back({io::adapter_key(module, "lora_magnitude_vector", text_only), adapter.magnitude});
  }
  for (const TableTarget& table : tables)
    for (auto& [key, tensor] : table.named_tensors(text_only)) all.push_back({key, tensor});
  for (const NormTarget& norm : norms) all.push_back({io::saved_module_key(norm.name, text_only), norm.weight});
  return all;
}

void SavedTensor::replace(const torch::Tensor& whole) const {
  const at::NoGradGuard no_grad;
  const std::int64_t size = trained.size(dim);
  torch::Tensor(trained).copy_(start.defined() ? whole.narrow(dim, 0, size) : whole);
  if (start.defined()) torch::Tensor(start).copy_(whole.narrow(dim, size, size));
}

std::string Selection::key_module(const Target& target) const {
  if (target.stack == nullptr) return target.name;
  const auto is_other = [&](const Target& t) { return t.mixture == target.mixture && t.stack != target.stack; };
  return expert_key_module(target.name, std::ranges::any_of(targets, is_other));
}

std::vector<Target> linear_layers(const torch::nn::Module& model) {
  std::vector<Target> layers = adaptable_layers(model);
  std::erase_if(layers, [](const Target& target) { return target.stack != nullptr; });
  return layers;
}

std::vector<Target> expert_stacks(const torch::nn::Module& model) {
  std::vector<Target> stacks = adaptable_layers(model);
  std::erase_if(stacks, [](const Target& target) { return target.stack == nullptr; });
  return stacks;
}

std::vector<Target> adaptable_layers(const torch::nn::Module& model) {
  std::vector<Target> layers;
  for (const nn::WeightSite& site : nn::weight_sites(model)) {
    if (site.role() != nn::MatrixRole::kLinear && site.role() != nn::MatrixRole::kExperts) continue;
    const gemma4::Part* part = gemma4::place_of(site.module).part;
    TORCH_CHECK(part != nullptr, "the layer ", site.name(), " belongs to no part of the model");
    Target& target =
        layers.emplace_back(Target{.name = site.name(), .tower = part->tower, .part = part, .shape = site.slot->shape});
    if (site.mixture == nullptr) {
      target.layer = nn::Linear(std::static_pointer_cast<nn::LinearImpl>(site.layer->shared_from_this()));
      continue;
    }
    target.tower = Tower::kExperts;
    target.mixture = std::static_pointer_cast<nn::StackedExperts>(site.mixture->shared_from_this());
    target.stack = site.mixture->stack(site.slot->name);
  }
  return layers;
}

std::vector<TowerCount> with_frozen_experts(std::vector<TowerCount> counts, const torch::nn::Module& model) {
  if (std::ranges::find(counts, Tower::kExperts, &TowerCount::tower) == counts.end() && !expert_stacks(model).empty())
    counts.push_back({.tower = Tower::kExperts});
  return counts;
}

Selection select_targets(torch::nn::Module& model, const LoraConfig& config, const SelectOptions& options) {
  config.check();
  Selection selection{.targets = {}, .text_only = options.text_only};
  const bool language = std::ranges::find(config.towers, Tower::kLanguage) != config.towers.end();
  if (language || !config.modules_to_save.empty() || !config.trainable_token_indices.empty())
    selection.tables = select_tables(model, config, options.text_only);
  selection.norms = select_norms(model, config.modules_to_save);
  selection.targets = Selector(model, config, options, selection.tables).select();
  return selection;
}

namespace {

void check_start(const Target& target, const std::string& init) {
  if (target.stack != nullptr && init != "true")
    throw Error(ErrorKind::kConfig, "init_lora_weights: got ", init, " beside adapted experts, which start as PEFT's ",
                "default does; write true, or leave the experts frozen");
  const bool is_pissa = parse_pissa(init).has_value();
  if ((init == "orthogonal" || is_pissa) && target.weight() && !is_dense(*target.weight()))
    throw Error(ErrorKind::kConfig, "init_lora_weights: ", init, " needs dense weights, as in PEFT, and those of '",
                target.name, "' are ", target.weight()->storage(), "; write true or gaussian");
  const std::int64_t most = std::min(target.in_features(), target.out_features());
  if (is_pissa && target.rank > most)
    throw Error(ErrorKind::kConfig, "init_lora_weights: ", init, " has no more directions than '", target.name,
                "' has rows or columns, ", most, "; its rank is ", target.rank);
}

// A and B, and what PiSSA takes out of the base again.
void begin(nn::Adapter& adapter, const Target& target, const LoraConfig& config, bool is_resumed) {
  const auto device = target.weight() ? target.weight()->device() : torch::Device(torch::kCPU);
  const auto options = torch::TensorOptions().dtype(torch::kFloat).device(device);
  const auto pissa = parse_pissa(config.init_lora_weights);
  if (pissa && (is_resumed || !target.weight() || device.is_meta()))
    std::tie(adapter.a, adapter.b) =
        std::pair(at::zeros(target.a_shape(), options), at::zeros(target.b_shape(), options));
  else if (pissa)
    std::tie(adapter.a, adapter.b) = pissa_factors(*target.weight(), target.rank, adapter.scale, *pissa);
  else  // Drawn on the CPU: a seed means the same adapter on every device.
    std::tie(adapter.a, adapter.b) =
        first_factors(target.num_experts() * target.rank, target.in_features(), target.out_features(),
                      config.init_lora_weights, torch::TensorOptions().dtype(torch::kFloat));
  adapter.a = adapter.a.to(device);
  adapter.b = adapter.b.to(device);
  if (pissa) {
    adapter.start_a = adapter.a.clone();
    adapter.start_b = adapter.b.neg();
  }
}

}  // namespace

void attach(Selection& selection, const LoraConfig& config, bool is_resumed) {
  for (const Target& target : selection.targets) {
    nn::Adapter adapter;
    check_start(target, config.init_lora_weights);
    adapter.scale = config.scale(target.rank, target.alpha);
    begin(adapter, target, config, is_resumed);
    adapter.a.requires_grad_();
    adapter.b.requires_grad_();
    adapter.dropout = config.dropout;
    adapter.site = nn::site_key(target.name);
    if (target.dora) nn::add_magnitude(adapter, *target.weight());
    target.adapter() = std::move(adapter);
  }
  attach_tables(selection.tables, config);
  attach_norms(selection.norms);
}

bool is_dense(const quant::Weight& weight) {
  return weight.storage() == "float32" || weight.storage() == "bfloat16" || weight.storage() == "float16";
}

void detach_all(torch::nn::Module& model) {
  for (const Target& layer : adaptable_layers(model)) layer.adapter().reset();
  detach_tables(model);
  for (const NormTarget& norm : norms_of(model)) norm.take_out();
}

}  // namespace bezel::lora
