#include "bezel/lora/config.h"

#include <algorithm>
#include <cctype>
#include <cmath>

#include "bezel/error.h"
#include "bezel/io/pattern.h"
#include "bezel/lora/pissa_config.h"

namespace bezel::lora {
namespace {

using io::Json;
using io::JsonView;

constexpr const char* kImageAttention = "image_attention";
constexpr std::int64_t kMaxRank = 1 << 16;
constexpr std::size_t kMaxPatterns = 4096;  // of names or regexes; each is matched with every layer

// Keys that change nothing about a finished adapter: where it came from, how it was started, group sizes of features
// that have a switch of their own.
constexpr std::string_view kIgnoredKeys[] = {"auto_mapping",
                                             "base_model_name_or_path",
                                             "corda_config",
                                             "ensure_weight_tying",
                                             "eva_config",
                                             "inference_mode",
                                             "loftq_config",
                                             "lora_alpha",
                                             "lora_dropout",
                                             "lora_ga_config",
                                             "megatron_core",
                                             "peft_type",
                                             "peft_version",
                                             "qalora_group_size",
                                             "r",
                                             "rank_pattern",
                                             "alpha_pattern",
                                             "revision",
                                             "runtime_config",
                                             "target_modules",
                                             "target_parameters",
                                             "exclude_modules",
                                             "task_type",
                                             "use_rslora",
                                             "use_dora",
                                             "bias",
                                             "init_lora_weights",
                                             "layers_pattern",
                                             "layers_to_transform"};

// A key that switches nothing on.
bool is_off(const Json& value) {
  return value.is_null() || (value.is_boolean() && !value.get<bool>()) ||
         ((value.is_object() || value.is_array()) && value.empty());
}

// Later versions of PEFT add keys: those that only carry a number or a word are ignored, switches are not.
bool may_pass(const Json& value) { return is_off(value) || value.is_number() || value.is_string(); }

// Switches of 0.21.2 whose "on" may be a number or a word.
constexpr std::string_view kSwitches[] = {"modules_to_save", "alora_invocation_tokens", "lora_bias", "fan_in_fan_out"};

struct Feature {
  std::string_view key, name;
};
// What people call the features behind keys that are refused.
constexpr Feature kFeatures[] = {
    {"modules_to_save", "whole modules trained beside LoRA"},
    {"trainable_token_indices", "rows of the embeddings trained beside LoRA"},
    {"lora_bias", "biases in the adapter"},
    {"alora_invocation_tokens", "aLoRA"},
    {"layer_replication", "layers that stand several times in the model"},
    {"fan_in_fan_out", "transposed matrices"},
    {"use_qalora", "QA-LoRA"},
};

/// Throws for what is not supported, or lists it.
class Refusals {
 public:
  explicit Refusals(std::vector<std::string>* listed) : listed_(listed) {}

  void operator()(const JsonView& value, const std::string& expected) const {
    if (listed_ == nullptr) value.fail(expected);
    std::string text = value.value().dump(-1, ' ', false, Json::error_handler_t::replace);
    if (text.size() > 60) text = text.substr(0, 60) + "…";
    listed_->push_back(value.key() + " " + text + ": expected " + expected);
  }

 private:
  std::vector<std::string>* listed_;  // null: throw
};

std::string refusal_of(std::string_view key) {
  const auto* const feature = std::ranges::find(kFeatures, key, &Feature::key);
  const std::string name = feature == std::end(kFeatures) ? "" : " (" + std::string(feature->name) + ")";
  return "null or false: this PEFT feature" + name +
         " is not supported, so the adapter would not mean here what it means there";
}

void refuse_unsupported(const JsonView& json, const AdapterReading& reading, const Refusals& refuse) {
  for (const auto& [name, value] : json.members()) {
    if (std::ranges::find(kIgnoredKeys, name) != std::end(kIgnoredKeys)) continue;
    const bool is_table = name == "modules_to_save" || name == "trainable_token_indices";
    if (is_table && reading.saved_modules && (value.is_array() || value.is_object())) continue;
    const bool is_switch = std::ranges::find(kSwitches, name) != std::end(kSwitches);
    if (is_switch ? is_off(value.value()) : may_pass(value.value())) continue;
    refuse(value, refusal_of(name));
  }
}

// Some ways to start an adapter also change the base weights, so the adapter alone does not say what the model is.
void read_initialization(const JsonView& json, const AdapterReading& reading, const Refusals& refuse,
                         LoraConfig& config) {
  const auto init = json.find("init_lora_weights");
  if (!init) return;
  if (init->value().is_boolean()) {
    config.init_lora_weights = init->boolean() ? "true" : "false";
    return;
  }
  const std::string kind = init->text();
  if (kind == "gaussian" || kind == "orthogonal") config.init_lora_weights = kind;
  if (kind == "gaussian" || kind == "orthogonal" || kind == "eva") return;
  if (reading.pissa && kind == "pissa") {
    config.init_lora_weights = kind;
    return;
  }
  refuse(*init, "true, false, gaussian, orthogonal or eva: other initializations change the base weights too");
}

void check_count(const JsonView& json) {
  if (json.value().size() > kMaxPatterns) json.fail("at most " + std::to_string(kMaxPatterns) + " entries");
}

// Compiled here only to name file and key.
void check_regex(const JsonView& json, const std::string& pattern) {
  const io::Pattern compiled(pattern, json.source() + ": key '" + json.key() + "'", ErrorKind::kData);
}

ModulePattern read_pattern(const JsonView& json) {
  if (json.is_string()) {
    check_regex(json, json.text());
    return ModulePattern::from_text(json.text());
  }
  check_count(json);
  std::vector<std::string> names;
  for (const JsonView& name : json.elements()) names.push_back(name.text());
  return ModulePattern::from_names(std::move(names));
}

void read_patterns(const JsonView& json, LoraConfig& config) {
  if (const auto targets = json.find("target_modules")) config.target_modules = read_pattern(*targets);
  if (const auto excluded = json.find("exclude_modules")) config.exclude_modules = read_pattern(*excluded);
  if (const auto parameters = json.find("target_parameters"); parameters && !parameters->value().is_null()) {
    check_count(*parameters);
    for (const JsonView& name : parameters->elements()) config.target_parameters.push_back(name.text());
  }
  if (const auto ranks = json.find("rank_pattern")) {
    check_count(*ranks);
    for (const auto& [name, rank] : ranks->members()) {
      check_regex(*ranks, name);
      config.rank_pattern.emplace_back(name, rank.whole(1, kMaxRank));
    }
  }
  if (const auto alphas = json.find("alpha_pattern")) {
    check_count(*alphas);
    for (const auto& [name, alpha] : alphas->members()) {
      check_regex(*alphas, name);
      config.alpha_pattern.emplace_back(name, alpha.number());
    }
  }
}

// One value or a list of them.
std::vector<JsonView> values_of(const JsonView& json) {
  return json.is_array() ? json.elements() : std::vector<JsonView>{json};
}

// As PEFT, which requires target_modules beside them.
void read_layers(const JsonView& json, LoraConfig& config) {
  const auto layers = json.find("layers_to_transform");
  const auto patterns = json.find("layers_pattern");
  if (layers) {
    check_count(*layers);
    for (const JsonView& layer : values_of(*layers)) config.layers_to_transform.push_back(layer.whole(0, kMaxRank));
  }
  if (patterns)
    for (const JsonView& pattern : values_of(*patterns)) {
      check_regex(pattern, pattern.text());
      if (!pattern.text().empty()) config.layers_pattern.push_back(pattern.text());
    }
  if (!config.layers_to_transform.empty() && config.target_modules.kind == ModulePattern::Kind::kRegex)
    layers->fail("null beside a target_modules that is one regex, which says itself which layers are meant");
}

std::vector<std::int64_t> token_ids(const JsonView& json) {
  check_count(json);
  std::vector<std::int64_t> ids;
  for (const JsonView& id : json.elements()) ids.push_back(id.whole(0, std::int64_t{1} << 31));
  return ids;
}

// What is trained of embeddings and head beside LoRA.
void read_tables(const JsonView& json, LoraConfig& config) {
  if (const auto saved = json.find("modules_to_save"); saved && saved->is_array())
    for (const JsonView& name : saved->elements()) config.modules_to_save.push_back(name.text());
  const auto tokens = json.find("trainable_token_indices");
  if (!tokens) return;
  if (tokens->is_array())
    config.trainable_token_indices.emplace_back("embed_tokens", token_ids(*tokens));
  else if (tokens->is_object())
    for (const auto& [name, ids] : tokens->members()) config.trainable_token_indices.emplace_back(name, token_ids(ids));
}

// mlx_lm writes a file of the same name.
void refuse_mlx(const JsonView& json) {
  if (json.find("peft_type") || !(json.find("lora_parameters") || json.find("fine_tune_type"))) return;
  throw Error(json.source(), ": of an adapter of MLX (mlx_lm), whose tensors have other names and shapes; Bezel reads ",
              "adapters of PEFT: `bezel convert --adapter … --to peft --output D` makes one");
}

// true and false as such.
Json init_json(const std::string& init) {
  if (init == "true" || init == "false") return init == "true";
  return init;
}

Json tokens_json(const LoraConfig& config) {
  const auto& tokens = config.trainable_token_indices;
  if (tokens.empty()) return nullptr;
  Json json = Json::object();
  for (const auto& [name, ids] : tokens) json[name] = ids;
  return json;
}

// PEFT writes whole alphas as integers.
Json number_json(double value) {
  if (value == std::floor(value) && std::abs(value) < 1e15) return static_cast<std::int64_t>(value);
  return value;
}

// What the reader of a config takes; PEFT knows more.
void check_initialization(const LoraConfig& config) {
  const std::string& init = config.init_lora_weights;
  const auto refuse = [&](const std::string& why) {
    throw Error(ErrorKind::kConfig, "init_lora_weights: got '", init, "', ", why);
  };
  if (parse_pissa(init)) {
    if (config.use_dora)
      refuse("beside use_dora, for which PEFT has no adapter over the base as it is; drop one of them");
    if (config.dropout > 0) refuse("beside lora_dropout, which would drop what is taken out of the base; write 0");
    return;
  }
  if (init.starts_with("pissa")) refuse("expected pissa, or pissa_niter_N with a number above 0");
  if (init == "olora" || init == "corda" || init == "loftq")
    refuse(
        "which takes what A and B begin with out of the base's weights; Bezel maps those and leaves them as they are, "
        "and the adapter would be right only over a base that was changed alike. Write true, pissa, gaussian or "
        "orthogonal");
  if (init == "eva" || init == "lora_ga" || init == "mica")
    refuse(
        "which PEFT makes from activations, gradients or minor directions of the base; write true, gaussian, "
        "orthogonal or false, or start from an adapter that PEFT made (init_adapter)");
  if (init != "true" && init != "false" && init != "gaussian" && init != "orthogonal")
    refuse("expected true, gaussian, orthogonal, pissa, pissa_niter_N or false");
  if (init != "orthogonal") return;
  const auto check_even = [&](const std::string& key, std::int64_t rank) {
    if (rank % 2 != 0) throw Error(ErrorKind::kConfig, key, ": got ", rank, "; orthogonal starts need an even rank");
  };
  check_even("lora_r", config.rank);
  for (const auto& [name, rank] : config.rank_pattern) check_even("rank_pattern." + name, rank);
}

}  // namespace

Tower parse_tower(std::string_view name) {
  for (const Tower tower : kTowers) {
    if (name == tower_name(tower)) return tower;
  }
  throw Error(ErrorKind::kConfig, "lora_towers: got '", name,
              "', expected language, vision, audio, projectors or experts");
}

ModulePattern ModulePattern::from_names(std::vector<std::string> names) {
  ModulePattern pattern;
  pattern.kind = Kind::kNames;
  pattern.names = std::move(names);
  return pattern;
}

ModulePattern ModulePattern::from_text(std::string text) {
  ModulePattern pattern;
  std::string lower = text;
  std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return std::tolower(c); });
  pattern.kind = lower == "all-linear" ? Kind::kAllLinear : Kind::kRegex;
  pattern.regex = std::move(text);
  return pattern;
}

double LoraConfig::scale(std::int64_t layer_rank, double layer_alpha) const {
  const auto r = static_cast<double>(layer_rank);
  return layer_alpha / (use_rslora ? std::sqrt(r) : r);
}

bool LoraConfig::adapts_experts() const {
  return !target_parameters.empty() || std::ranges::find(towers, Tower::kExperts) != towers.end();
}

bool LoraConfig::adapts_layers() const {
  const bool names_none = target_modules.kind == ModulePattern::Kind::kNames && target_modules.names.empty();
  const bool by_default =
      target_modules.kind == ModulePattern::Kind::kDefault || target_modules.kind == ModulePattern::Kind::kAllLinear;
  return !names_none && !(by_default && towers == std::vector<Tower>{Tower::kExperts});
}

void LoraConfig::check() const {
  const auto refuse = [](const auto&... parts) { throw Error(ErrorKind::kConfig, parts...); };
  const auto check_rank = [&](const std::string& key, std::int64_t value) {
    if (value < 1 || value > kMaxRank) refuse(key, ": got ", value, ", expected 1 to ", kMaxRank);
  };
  const auto check_alpha = [&](const std::string& key, double value) {
    if (!std::isfinite(value) || value <= 0) refuse(key, ": got ", value, ", expected a number above 0");
  };
  check_rank("lora_r", rank);
  check_alpha("lora_alpha", alpha);
  for (const auto& [name, value] : rank_pattern) check_rank("rank_pattern." + name, value);
  for (const auto& [name, value] : alpha_pattern) check_alpha("alpha_pattern." + name, value);
  if (!(dropout >= 0 && dropout < 1)) refuse("lora_dropout: got ", dropout, ", expected at least 0 and below 1");
  check_initialization(*this);
  if (towers.empty())
    refuse("lora_towers: got an empty list, expected some of language, vision, audio, projectors, experts");
  if (!layers_pattern.empty() && layers_to_transform.empty())
    refuse("layers_pattern: given without layers_to_transform, the numbers of the layers");
  if (!layers_to_transform.empty() && target_modules.kind == ModulePattern::Kind::kRegex)
    refuse("layers_to_transform: cannot go with a target_modules that is one regex; say the layers in the regex");
  const bool is_empty = target_modules.kind == ModulePattern::Kind::kNames && target_modules.names.empty();
  if (is_empty && !adapts_experts())
    refuse("target_modules: got an empty list; leave the key out for the default layers");
}

AdapterConfig parse_adapter_config(const Json& value, const std::string& source, const AdapterReading& reading) {
  const JsonView json(value, source);
  AdapterConfig result;
  const Refusals refuse(reading.list_only ? &result.unsupported : nullptr);
  refuse_mlx(json);
  const JsonView type = json.at("peft_type");
  if (!type.is_string() || type.text() != "LORA") {
    refuse(type, "\"LORA\", the one adapter type that is supported");
    return result;
  }
  if (const auto bias = json.find("bias"); bias && bias->text() != "none")
    refuse(*bias, "\"none\": adapters that train biases are not supported");
  refuse_unsupported(json, reading, refuse);
  LoraConfig& lora = result.lora;
  read_initialization(json, reading, refuse, lora);
  lora.towers.assign(std::begin(kTowers), std::end(kTowers));
  lora.rank = json.at("r").whole(1, kMaxRank);
  lora.alpha = json.at("lora_alpha").number();
  if (const auto dropout = json.find("lora_dropout")) {
    lora.dropout = dropout->number();
    if (lora.dropout < 0 || lora.dropout >= 1) dropout->fail("at least 0 and below 1");
  }
  if (const auto rslora = json.find("use_rslora")) lora.use_rslora = rslora->boolean();
  if (const auto dora = json.find("use_dora")) lora.use_dora = dora->boolean();
  read_patterns(json, lora);
  read_layers(json, lora);
  if (reading.saved_modules) read_tables(json, lora);
  if (const auto base = json.find("base_model_name_or_path")) result.base_model = base->text();
  if (const auto mapping = json.find("auto_mapping"); mapping && mapping->is_object()) {
    if (const auto name = mapping->find("base_model_class"); name && name->value().is_string())
      result.architecture = name->text();
    if (const auto attention = mapping->find(kImageAttention)) result.image_attention = attention->text();
  }
  return result;
}

AdapterConfig read_adapter_config(const std::string& path, const AdapterReading& reading) {
  return parse_adapter_config(io::read_json_file(path), path, reading);
}

Json adapter_config_json(const LoraConfig& config, const std::vector<AdaptedLayer>& layers,
                         const std::string& base_model, const std::string& architecture,
                         const std::string& image_attention) {
  Json targets = Json::array(), parameters = nullptr, ranks = Json::object(), alphas = Json::object();
  for (const AdaptedLayer& layer : layers) {
    (layer.is_parameter ? parameters : targets).push_back(layer.name);
    if (layer.rank != config.rank) ranks[layer.name] = layer.rank;
    if (layer.alpha != config.alpha) alphas[layer.name] = number_json(layer.alpha);
  }
  const std::string family = architecture.starts_with("Gemma3")          ? "gemma3"
                             : architecture.starts_with("Gemma4Unified") ? "gemma4_unified"
                                                                         : "gemma4";
  Json json = {{"alora_invocation_tokens", nullptr},
               {"alpha_pattern", alphas},
               {"arrow_config", nullptr},
               {"auto_mapping",
                {{"base_model_class", architecture},
                 {"parent_library", "transformers.models." + family + ".modeling_" + family}}},
               {"base_model_name_or_path", base_model},
               {"bias", "none"},
               {"corda_config", nullptr},
               {"ensure_weight_tying", false},
               {"eva_config", nullptr},
               {"exclude_modules", nullptr},
               {"fan_in_fan_out", false},
               {"inference_mode", true},
               {"init_lora_weights", init_json(config.init_lora_weights)},
               {"kasa_config", nullptr},
               {"layer_replication", nullptr},
               {"layers_pattern", nullptr},
               {"layers_to_transform", nullptr},
               {"loftq_config", Json::object()},
               {"lora_alpha", number_json(config.alpha)},
               {"lora_bias", false},
               {"lora_dropout", config.dropout},
               {"lora_ga_config", nullptr},
               {"megatron_config", nullptr},
               {"megatron_core", "megatron.core"},
               {"modules_to_save", config.modules_to_save.empty() ? Json(nullptr) : Json(config.modules_to_save)},
               {"monteclora_config", nullptr},
               {"peft_type", "LORA"},
               {"peft_version", "0.21.2"},
               {"qalora_group_size", 16},
               {"r", config.rank},
               {"rank_pattern", ranks},
               {"revision", nullptr},
               {"target_modules", targets},
               {"target_parameters", parameters},
               {"task_type", nullptr},
               {"trainable_token_indices", tokens_json(config)},
               {"use_bdlora", nullptr},
               {"use_dora", config.use_dora},
               {"use_qalora", false},
               {"use_rslora", config.use_rslora},
               {"velora_config", nullptr}};
  if (!image_attention.empty()) json["auto_mapping"][kImageAttention] = image_attention;
  return json;
}

}  // namespace bezel::lora
