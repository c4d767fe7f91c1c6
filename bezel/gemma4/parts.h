#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "bezel/gemma4/config.h"
#include "bezel/input/media_kind.h"

/// The structure of a model as values. Uses no LibTorch, so that `lora` and `data` may include it.
namespace bezel::gemma4 {

/// The names of lora_towers.
enum class Tower { kLanguage, kVision, kAudio, kProjectors, kExperts };

inline constexpr Tower kTowers[] = {Tower::kLanguage, Tower::kVision, Tower::kAudio, Tower::kProjectors,
                                    Tower::kExperts};

/// "language", "vision", "audio", "projectors" or "experts": the stacks of a mixture, which are in the decoder.
std::string_view tower_name(Tower tower);

enum class PartKind {
  kDecoder,    ///< the language model
  kEncoder,    ///< turns media of one kind into soft tokens
  kProjector,  ///< brings soft tokens of one kind to the width of the decoder
};

/// Sizes of one layer that its memory and work depend on.
struct LayerShape {
  std::int64_t input_width = 0;   ///< values that the layer reads for a row
  std::int64_t hidden_size = 0;   ///< of its norms and projections
  std::int64_t feed_forward = 0;  ///< of its feed-forward layers together
  std::int64_t attention = 0;     ///< heads times head size
};

/// A part of a model: the decoder, an encoder or a projector.
struct Part {
  PartKind kind = PartKind::kDecoder;
  std::optional<input::MediaKind> media{};              ///< of an encoder and a projector
  Tower tower = Tower::kLanguage;                       ///< the name in lora_towers that selects it
  std::string_view label{};                             ///< in messages: "vision projector"
  std::string_view module{};                            ///< canonical name: "model.vision_tower"
  std::span<const std::string_view> children{};         ///< of `module`, where it holds another part too; empty: all
  std::string_view layer_list{};                        ///< module of its layers, below `module`: "encoder.layers"
  std::span<const std::string_view> default_targets{};  ///< layers, by last name, that LoRA adapts by default
  Family family = Family::kGemma4;                      ///< of an encoder and a projector: whose it is
  std::int64_t hidden_size = 0;                         ///< of known_parts(): 0
  std::vector<LayerShape> layers{};                     ///< of known_parts(): empty

  /// "vision_tower"
  std::string_view last_name() const { return module.substr(module.rfind('.') + 1); }
};

/// Every part that a model may have, without sizes; those of one family in the order of the module tree.
std::span<const Part> known_parts();

/// That of known_parts() for one kind of media; null where a model of `family` has none, as the unified one has no
/// encoder of audio.
const Part* known_part(Family family, PartKind kind, input::MediaKind media);

/// The parts of the model that `config` describes, in the order of the module tree.
std::vector<Part> parts_of(const ModelConfig& config);

/// The part of `parts` of that kind and, where one is given, that kind of media; null where there is none.
const Part* find_part(std::span<const Part> parts, PartKind kind, std::optional<input::MediaKind> media = {});

/// Where a module or tensor belongs.
struct Place {
  const Part* part = nullptr;  ///< null for the head and for unknown names
  std::int64_t layer = -1;     ///< -1 outside of layers
  std::string_view name{};     ///< below the layer, else below the part, else all of it
};

/// Reads a canonical name, such as "model.vision_tower.encoder.layers.3.self_attn.q_proj".
Place place_of(std::string_view canonical, std::span<const Part> parts = known_parts());

}  // namespace bezel::gemma4
