#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "bezel/lora/config.h"

/// How PEFT names adapters over the stacked experts. It wraps the module `experts` once for each of its matrices that
/// target_parameters names, so the number of wrappers in a key says which matrix it adapts: with both adapted,
/// `experts.base_layer.lora_A` adapts gate_up_proj and `experts.lora_A` down_proj; with one, `experts.lora_A` adapts
/// that one. Reference: peft 0.21.2, BaseTuner._inject_parameters and ParamWrapper.
namespace bezel::lora {

/// Whether a canonical module name is one under which PEFT keeps adapters of experts: `….experts`, perhaps wrapped.
bool is_expert_key_module(std::string_view module);

/// Whether a canonical name is that of a stack of experts: `….experts.gate_up_proj` or `….experts.down_proj`.
bool is_expert_matrix(std::string_view name);

/// The module under which the adapter of a stack is kept: "….experts.base_layer" of "….experts.gate_up_proj" where both
/// stacks are adapted, else "….experts".
std::string expert_key_module(std::string_view matrix, bool both_adapted);

/// The inverse, by the target_parameters of `config`; nothing where they name no such matrix.
std::optional<std::string> expert_matrix_of(std::string_view key_module, const LoraConfig& config);

/// The name of `matrix` in the spelling of the file: `stored` is its module as a key spells it, perhaps wrapped.
std::string stored_matrix_name(std::string_view stored, std::string_view matrix);

}  // namespace bezel::lora
