#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bezel/gemma4/parts.h"
#include "bezel/io/json.h"

namespace bezel::lora {

using gemma4::kTowers;
using gemma4::Tower;
using gemma4::tower_name;

/// Throws Error (kConfig) for any other name.
Tower parse_tower(std::string_view name);

/// Which modules, in PEFT's terms.
struct ModulePattern {
  enum class Kind {
    kDefault,    ///< as targets: the attention and MLP projections; as exclusion: nothing
    kNames,      ///< a module whose name is one of `names` or ends in "." and one of them
    kRegex,      ///< a module whose whole name matches `regex` (Python's syntax, as far as ECMAScript's agrees)
    kAllLinear,  ///< every linear layer but the head
  };
  Kind kind = Kind::kDefault;
  std::vector<std::string> names;
  std::string regex;

  static ModulePattern from_names(std::vector<std::string> names);
  /// One string, as PEFT takes it: "all-linear" in any case, else a regex.
  static ModulePattern from_text(std::string text);
};

/// What to adapt and how; the part of a training config and of adapter_config.json that LoRA is.
struct LoraConfig {
  std::int64_t rank = 16;
  double alpha = 32;
  double dropout = 0;
  bool use_rslora = false;  ///< scale alpha / sqrt(rank) in place of alpha / rank
  bool use_dora = false;    ///< a trained magnitude for each output, see nn/dora.h
  /// How A and B begin, in PEFT's words: "true" (A kaiming-uniform, B zero), "gaussian" (A normal, B zero),
  /// "orthogonal" (B A zero, neither of them), "false" (both kaiming-uniform), "pissa" and "pissa_niter_N" (the base's
  /// strongest directions, see pissa.h).
  std::string init_lora_weights = "true";
  std::vector<Tower> towers = {Tower::kLanguage};
  ModulePattern target_modules = {};
  ModulePattern exclude_modules = {};
  /// Stacks of experts, as PEFT names them: a parameter whose name is one of these or ends in "." and one of them;
  /// empty: both of each layer where `towers` holds the experts, else empty.
  std::vector<std::string> target_parameters = {};
  /// Numbers of the layers that target_modules chooses from; empty: all. A module without a number is not chosen then.
  std::vector<std::int64_t> layers_to_transform = {};
  /// The word before the number of a layer, such as "layers"; empty: any name.
  std::vector<std::string> layers_pattern = {};
  /// Regex of module names (matched at the end, whole dotted parts) -> rank or alpha; the first match counts.
  std::vector<std::pair<std::string, std::int64_t>> rank_pattern = {};
  std::vector<std::pair<std::string, double>> alpha_pattern = {};

  /// Modules that are trained whole and saved beside LoRA: embed_tokens, lm_head, norms of the decoder.
  std::vector<std::string> modules_to_save = {};
  /// Module (embed_tokens, lm_head) -> tokens whose rows alone are trained. Tied, the head shares those of
  /// embed_tokens.
  std::vector<std::pair<std::string, std::vector<std::int64_t>>> trainable_token_indices = {};

  double scale(std::int64_t layer_rank, double layer_alpha) const;
  bool adapts_experts() const;
  /// Whether target_modules choose any: not where experts alone are adapted.
  bool adapts_layers() const;
  /// Throws Error (kConfig) when a number is out of range or no tower is chosen.
  void check() const;
};

/// An adapter folder's adapter_config.json.
struct AdapterConfig {
  LoraConfig lora;  ///< `towers` holds all of them: PEFT knows no towers
  std::string base_model;
  std::string architecture;              ///< the base's class, by auto_mapping; "": not said
  std::string image_attention;           ///< the rule that it was trained with (gemma4::ImageAttention); "": not said
  std::vector<std::string> unsupported;  ///< only on request: what would otherwise be an Error
};

/// What the reader of an adapter_config.json does about features that Bezel lacks.
struct AdapterReading {
  bool saved_modules = false;  ///< modules_to_save and trainable_token_indices are read, not refused
  bool pissa = false;          ///< PiSSA as PEFT trains it is read: the reader finds what it took out of the base
  bool list_only = false;      ///< fill `unsupported` instead of throwing
};

/// Reads what peft 0.21.2 and its ancestors write. Throws Error naming the key for everything that would make the
/// adapter mean something that is not supported: another peft_type, modules_to_save, bias, aLoRA and other variants …
/// An adapter of MLX is named as such.
AdapterConfig read_adapter_config(const std::string& path, const AdapterReading& reading = {});
AdapterConfig parse_adapter_config(const io::Json& json, const std::string& source, const AdapterReading& reading = {});

/// One adapted layer as adapter_config.json spells it.
struct AdaptedLayer {
  std::string name;  ///< full module name in the released spelling
  std::int64_t rank = 0;
  double alpha = 0;
  bool is_parameter = false;  ///< a stack of experts: one of target_parameters
};

/// adapter_config.json with the keys that peft 0.21.2 writes. `target_modules` lists full names: PEFT refuses bare
/// ones on clipped layers. Ranks and alphas that differ from the config's go by full name into the patterns.
/// `architecture` is the base's class, such as "Gemma4ForConditionalGeneration". `image_attention` is beside it in
/// auto_mapping, where PEFT lets keys of others be.
io::Json adapter_config_json(const LoraConfig& config, const std::vector<AdaptedLayer>& layers,
                             const std::string& base_model, const std::string& architecture,
                             const std::string& image_attention = "");

}  // namespace bezel::lora
