#include "bezel/report/adapter_elsewhere.h"

#include <algorithm>
#include <filesystem>
#include <map>

#include "bezel/error.h"
#include "bezel/gemma4/model.h"
#include "bezel/io/key_map.h"
#include "bezel/io/safetensors.h"
#include "bezel/lora/expert_keys.h"
#include "bezel/lora/file_names.h"
#include "bezel/lora/match.h"
#include "bezel/lora/pissa_config.h"
#include "bezel/nn/weight_site.h"

namespace bezel::report {
namespace {

using lora::Target;
using lora::Tower;

constexpr std::size_t kShownNames = 3;

// "N layers (a, b, c, …)".
std::string layers_text(const std::vector<std::string>& names) {
  std::string text = std::to_string(names.size()) + (names.size() == 1 ? " layer (" : " layers (");
  for (std::size_t i = 0; i < std::min(names.size(), kShownNames); ++i) text += (i > 0 ? ", " : "") + names[i];
  return text + (names.size() > kShownNames ? ", …)" : ")");
}

// Everything that the checks look at.
struct Adapter {
  lora::LoraConfig config;
  const lora::Selection& selection;
  std::map<std::string, std::string> stored;  // canonical module -> as the file's keys spell it
  std::vector<std::string> wrappers;          // names of the model's clippable layers, without `.linear`
  gemma4::ModelConfig base{};                 // its family

  bool gemma3() const { return base.family == gemma4::Family::kGemma3; }
  // The model's class in transformers.
  std::string class_of(bool text_only) const {
    gemma4::ModelConfig of = base;
    of.text_only = text_only;
    return of.architecture();
  }

  std::string peft_name(const Target& target) const { return io::peft_module_name(target.name, selection.text_only); }
  template <typename Keep>
  std::vector<std::string> names_where(const Keep& keep) const {
    std::vector<std::string> names;
    for (const Target& target : selection.targets)
      if (keep(target)) names.push_back(target.name);
    return names;
  }
};

// Experts by the name of their parameter, which is what target_parameters and the patterns are about.
void add_stored(const io::AdapterKey& key, Adapter& adapter) {
  const auto matrix = lora::expert_matrix_of(key.module, adapter.config);
  if (!matrix) {
    adapter.stored[adapter.base.is_unified() ? io::unified_name(key.module) : key.module] = key.stored;
    return;
  }
  adapter.stored[*matrix] = lora::stored_matrix_name(key.stored, *matrix);
}

Adapter read(torch::nn::Module& model, const lora::Selection& selection, const std::string& folder) {
  const std::filesystem::path path(folder);
  Adapter adapter{
      lora::read_adapter_config((path / lora::kAdapterConfig).string(), {.saved_modules = true, .pissa = true}).lora,
      selection,
      {},
      {}};
  const auto* const gemma = dynamic_cast<const gemma4::ModelImpl*>(&model);
  if (gemma != nullptr) adapter.base.family = gemma->config().family;
  const auto file = io::SafetensorsFile::open((path / lora::kAdapterWeights).string());
  for (const io::TensorInfo& info : file->tensors())
    if (const auto key = io::parse_adapter_key(info.name)) add_stored(*key, adapter);
  for (const nn::WeightSite& site : nn::linear_sites(model))
    if (io::is_clippable_module(site.module)) adapter.wrappers.push_back(site.module);
  return adapter;
}

// Of the decoder, spelled as the other class of the model spells it.
bool is_of_other_class(const Adapter& adapter, const Target& target) {
  const std::string& stored = adapter.stored.at(target.name);
  return stored == io::peft_module_name(target.name, !adapter.selection.text_only) &&
         stored != adapter.peft_name(target);
}

// In the checkpoint's spelling of the unified model, which transformers renames as it loads.
bool is_renamed_on_load(const Adapter& adapter, const Target& target) {
  return adapter.base.is_unified() &&
         adapter.stored.at(target.name) == io::stored_tensor_name(target.name, io::KeyLayout::kNested);
}

std::string remedy_for_class(bool text_only) {
  return std::string("`bezel convert --adapter … --names ") + (text_only ? "text" : "multimodal") + "` mends that";
}

// Keys in another spelling: the layers are made, and stay as they were started.
void check_peft_keys(const Adapter& adapter, Elsewhere& peft) {
  const bool text_only = adapter.selection.text_only;
  const auto other_class = adapter.names_where([&](const Target& t) { return is_of_other_class(adapter, t); });
  if (!other_class.empty())
    peft.problems.push_back("keys of " + layers_text(other_class) + " are spelled for " + adapter.class_of(!text_only) +
                            ", and this base is a " + adapter.class_of(text_only) + ": they match nothing there; " +
                            remedy_for_class(text_only));
  const auto flat = adapter.names_where([&](const Target& t) {
    return io::is_clippable_module(t.name) && adapter.stored.at(t.name) != adapter.peft_name(t);
  });
  if (!flat.empty())
    peft.problems.push_back("keys of " + layers_text(flat) +
                            " are spelt without '.linear': they match nothing there and are passed over, so the layers "
                            "stay untrained; `bezel convert --adapter … --layout nested` mends that");
  const auto foreign = adapter.names_where([&](const Target& t) {
    return !io::is_clippable_module(t.name) && adapter.stored.at(t.name) != adapter.peft_name(t) &&
           !is_of_other_class(adapter, t) && !is_renamed_on_load(adapter, t);
  });
  if (!foreign.empty())
    peft.problems.push_back("keys of " + layers_text(foreign) + " have another prefix than the layers have in a " +
                            adapter.class_of(text_only) + ": they match nothing there; " + remedy_for_class(text_only));
}

void check_peft_targets(const Adapter& adapter, Elsewhere& peft) {
  const lora::ModuleMatcher targets(adapter.config);
  const lora::ModuleMatcher excluded(adapter.config.exclude_modules, "exclude_modules");
  const auto selects = [&](const std::string& name) { return targets.matches({name}) && !excluded.matches({name}); };
  const lora::ModuleMatcher parameters(lora::ModulePattern::from_names(adapter.config.target_parameters),
                                       "target_parameters");
  const auto missed = adapter.names_where([&](const Target& t) {
    const std::string name = adapter.peft_name(t);
    return t.stack != nullptr ? !parameters.matches({name}) : !selects(name);
  });
  if (!missed.empty() && missed.size() == adapter.selection.targets.size())
    peft.problems.push_back("target_modules names no layer of a " + (adapter.class_of(adapter.selection.text_only)) +
                            ", which PEFT refuses (target modules not found in the base model)");
  else if (!missed.empty())
    peft.problems.push_back("target_modules does not select " + layers_text(missed) +
                            " by the names they have there, so their tensors are passed over");
  if (adapter.config.target_modules.kind == lora::ModulePattern::Kind::kAllLinear) return;
  std::vector<std::string> hit;
  std::ranges::copy_if(adapter.wrappers, std::back_inserter(hit), selects);
  if (!hit.empty())
    peft.problems.push_back(
        "target_modules also matches the wrapper around " + layers_text(hit) +
        ", which PEFT refuses (Gemma4ClippableLinear is not supported); list full names that end in "
        "'.linear'");
}

void check_peft_ranks(const Adapter& adapter, Elsewhere& peft) {
  const lora::PatternTable<std::int64_t> ranks(adapter.config.rank_pattern, "rank_pattern");
  const lora::PatternTable<double> alphas(adapter.config.alpha_pattern, "alpha_pattern");
  const auto ranks_differ = adapter.names_where(
      [&](const Target& t) { return ranks.find({adapter.peft_name(t)}, adapter.config.rank) != t.rank; });
  if (!ranks_differ.empty())
    peft.problems.push_back("r and rank_pattern give " + layers_text(ranks_differ) +
                            " another rank there than their tensors have, which PEFT refuses");
  const auto alphas_differ = adapter.names_where(
      [&](const Target& t) { return alphas.find({adapter.peft_name(t)}, adapter.config.alpha) != t.alpha; });
  if (!alphas_differ.empty())
    peft.problems.push_back("alpha_pattern gives " + layers_text(alphas_differ) + " another scale there");
}

std::vector<std::string> tower_layers(const Adapter& adapter) {
  return adapter.names_where([](const Target& t) { return t.part->tower != Tower::kLanguage; });
}

std::vector<std::string> expert_stacks(const Adapter& adapter) {
  return adapter.names_where([](const Target& t) { return t.stack != nullptr; });
}

constexpr const char* kPissaElsewhere =
    "init_lora_weights: pissa: A and B are over a base without what they began as, which PEFT alone finds anew; save "
    "it "
    "with path_initial_model_for_weight_conversion, or merge it";

std::string norms_text(const Adapter& adapter) {
  const auto& norms = adapter.selection.norms;
  return std::to_string(norms.size()) + (norms.size() == 1 ? " norm (" : " norms (") + norms[0].name +
         (norms.size() == 1 ? ") is" : ", …) are");
}

Elsewhere in_peft(const Adapter& adapter) {
  Elsewhere peft{.tool = "transformers + PEFT", .problems = {}, .notes = {}};
  check_peft_keys(adapter, peft);
  check_peft_targets(adapter, peft);
  check_peft_ranks(adapter, peft);
  if (adapter.selection.text_only && !adapter.gemma3() && peft.problems.empty())
    peft.notes.push_back("as " + adapter.class_of(true) + "; over the checkpoint with towers, a " +
                         adapter.class_of(false) + ", it needs `bezel convert --adapter … --names multimodal`");
  return peft;
}

// vLLM maps PEFT's names itself; it knows one rank and one alpha for the scale.
Elsewhere in_vllm(const Adapter& adapter) {
  Elsewhere vllm{.tool = "vLLM", .problems = {}, .notes = {}};
  check_peft_keys(adapter, vllm);
  if (lora::parse_pissa(adapter.config.init_lora_weights)) vllm.problems.emplace_back(kPissaElsewhere);
  if (adapter.config.use_dora)
    vllm.problems.push_back("use_dora: vLLM does not serve DoRA; merge the adapter and serve the result");
  for (const lora::TableTarget& table : adapter.selection.tables)
    vllm.problems.push_back(table.name + " is trained too, which vLLM does not serve beside LoRA; merge the adapter");
  if (!adapter.selection.norms.empty())
    vllm.problems.push_back(norms_text(adapter) +
                            " trained too, which vLLM does not serve beside LoRA; merge the adapter");
  const double scale = adapter.config.scale(adapter.config.rank, adapter.config.alpha);
  const auto rescaled =
      adapter.names_where([&](const Target& t) { return adapter.config.scale(t.rank, t.alpha) != scale; });
  if (!rescaled.empty())
    vllm.problems.push_back("rank_pattern and alpha_pattern are not read there: " + layers_text(rescaled) +
                            " would be scaled by " + std::to_string(scale));
  std::int64_t rank = 0;
  for (const Target& target : adapter.selection.targets) rank = std::max(rank, target.rank);
  if (rank > 16) vllm.notes.push_back("needs --max-lora-rank " + std::to_string(rank) + " or more");
  const auto alone = adapter.names_where([&](const Target& t) {
    return t.stack != nullptr && std::ranges::none_of(adapter.selection.targets, [&](const Target& other) {
             return other.mixture == t.mixture && other.stack != t.stack;
           });
  });
  if (!alone.empty())
    vllm.problems.push_back("adapts one of the two matrices of experts alone, " + layers_text(alone) +
                            ": vLLM wants both, experts.gate_up_proj and experts.down_proj");
  const auto towers = tower_layers(adapter);
  if (!towers.empty())
    vllm.notes.push_back(layers_text(towers) +
                         " outside the language model need --enable-tower-connector-lora, and do "
                         "nothing without it");
  return vllm;
}

// convert_lora_to_gguf.py takes lora_A and lora_B of the language model; the scale is lora_alpha / the tensor's rank.
Elsewhere in_llama_cpp(const Adapter& adapter) {
  Elsewhere llama{.tool = "llama.cpp", .problems = {}, .notes = {}};
  if (lora::parse_pissa(adapter.config.init_lora_weights)) llama.problems.emplace_back(kPissaElsewhere);
  if (adapter.config.use_dora)
    llama.problems.push_back("use_dora: llama.cpp has no form for DoRA's magnitudes; `bezel merge` puts them inside");
  for (const lora::TableTarget& table : adapter.selection.tables)
    llama.problems.push_back(table.name +
                             " is trained too, for which no adapter of llama.cpp has a form; `bezel merge` "
                             "puts it inside");
  if (!adapter.selection.norms.empty())
    llama.problems.push_back(
        norms_text(adapter) +
        " trained too, for which no adapter of llama.cpp has a form; `bezel merge` puts them inside");
  const auto towers = tower_layers(adapter);
  if (!towers.empty())
    llama.problems.push_back(layers_text(towers) +
                             " lie outside the language model: llama.cpp's converter stops at them, and `bezel "
                             "convert --to gguf` leaves them behind; train lora_towers: [language], or merge");
  const auto experts = expert_stacks(adapter);
  if (!experts.empty())
    llama.problems.push_back(
        layers_text(experts) +
        " are stacks of experts: llama.cpp's converter stops at them; `bezel convert --to gguf` writes "
        "experts.gate_up_proj "
        "and leaves experts.down_proj behind, which llama.cpp adds past the scale of each expert; merge the adapter");
  const auto rescaled = adapter.names_where([&](const Target& t) {
    return adapter.config.scale(t.rank, t.alpha) != adapter.config.alpha / static_cast<double>(t.rank);
  });
  if (!rescaled.empty())
    llama.problems.push_back("use_rslora and alpha_pattern are not read there: " + layers_text(rescaled) +
                             " would be scaled by lora_alpha / rank; `bezel convert --to gguf` writes B scaled");
  return llama;
}

}  // namespace

std::vector<Elsewhere> adapter_elsewhere(torch::nn::Module& model, const lora::Selection& selection,
                                         const std::string& folder) {
  const Adapter adapter = read(model, selection, folder);
  return {in_peft(adapter), in_vllm(adapter), in_llama_cpp(adapter)};
}

}  // namespace bezel::report
