#pragma once

#include <span>
#include <string>
#include <string_view>

#include "bezel/train/config_yaml.h"

namespace bezel::train {

/// What a key of another tool does here, where it sets nothing.
enum class ForeignEffect {
  kIgnored,  ///< touches speed, memory, logging or hardware alone: any value is accepted, and the key is listed once
  kNoted,    ///< accepted; unless it is off, the run prints `advice`
  kOff,      ///< would change what is learnt: accepted where it is off or has one of the `accepted` values
  kOnly,     ///< accepted with one of the `accepted` values alone
};

/// Keys of axolotl, LLaMA-Factory, TRL, transformers, PEFT and unsloth that config_keys() does not hold.
struct ForeignKey {
  std::string_view names;  ///< with spaces between them; "wandb_*" means all that begin so
  ForeignEffect effect = ForeignEffect::kIgnored;
  std::string_view accepted;  ///< values in lower case, with spaces between them; "x*" for all that begin so
  std::string_view advice;    ///< ignored, noted: what happens here; otherwise why it is refused and what to write
};

/// All rows, in the order of docs/recipes.md.
std::span<const ForeignKey> foreign_keys();

/// The row of `name`, written with '_'; null when there is none.
const ForeignKey* find_foreign_key(std::string_view name);

/// Whether the row accepts `value`: off, or each text in it one of the accepted values.
bool accepts(const ForeignKey& key, const ConfigValue& value);

}  // namespace bezel::train
