#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bezel::io {

/// How a checkpoint spells the weights of the layers that can be clipped.
enum class KeyLayout {
  kNested,  ///< `…q_proj.linear.weight`, as released
  kFlat,    ///< `…q_proj.weight`
};

/// Whether `module` (canonical or nested spelling without the final `.linear`) is one of the towers' clippable layers:
/// `model.vision_tower.encoder.layers.N.` + self_attn.{q,k,v,o}_proj, mlp.{gate,up,down}_proj, or
/// `model.audio_tower.layers.N.` + self_attn.{q_proj,k_proj,v_proj,post}, feed_forward{1,2}.ffw_layer_{1,2},
/// lconv1d.linear_{start,end}.
bool is_clippable_module(std::string_view module);

/// Bezel's name of a stored tensor: the flat spelling under `model.language_model…`, `model.vision_tower…` and so on.
/// `.linear` is dropped only inside clippable layers; `model.layers…` of text-only checkpoints (Gemma4ForCausalLM)
/// becomes `model.language_model.layers…`, and so do the spellings of a saved Gemma4Model or Gemma4TextModel
/// (`language_model.layers…`, `layers…`), of `model.language_model.model.layers…` and of a `model.` too many, all of
/// which transformers reads. The patch embedder of the unified model (`model.vision_embedder…`) has the name of its
/// module in transformers, `model.embed_vision…`. Any other name stays as it is.
std::string canonical_tensor_name(std::string_view stored);

/// Whether a canonical name is in the patch embedder of the unified model: `model.embed_vision.` + patch_ln1,
/// patch_dense, patch_ln2, pos_embedding, pos_norm.
bool is_patch_embedder(std::string_view canonical);

/// The canonical name in a model with a patch embedder: what others call `model.embed_vision.embedding_projection…` is
/// `model.embed_vision.multimodal_embedder.embedding_projection…` there. Any other name stays as it is.
std::string unified_name(std::string_view canonical);

/// The inverse of both: how a tensor of canonical name is spelt in a checkpoint of that layout.
std::string stored_tensor_name(std::string_view canonical, KeyLayout layout, bool text_only = false);

/// The same stored tensor in a checkpoint of another layout, under `model.` as released.
std::string respelt_tensor_name(std::string_view stored, KeyLayout layout);

/// The layout of a list of stored names: kFlat when a clippable layer's weight is stored without `.linear`, kNested
/// otherwise. Throws Error naming both when the same tensor is there in both spellings.
KeyLayout detect_layout(const std::vector<std::string>& stored_names);

/// Bezel's name of a tensor of a GGUF file as llama.cpp names them (`blk.3.attn_q.weight`); nothing for one that no
/// language model of Gemma has.
std::optional<std::string> canonical_gguf_name(std::string_view stored);

/// The inverse: the name in a GGUF file of a tensor of canonical name; nothing for one without a name there.
std::optional<std::string> gguf_tensor_name(std::string_view canonical);

/// Module name as transformers + PEFT spell it: `.linear` behind clippable layers, unless the layout is kFlat.
std::string peft_module_name(std::string_view canonical_module, bool text_only = false,
                             KeyLayout layout = KeyLayout::kNested);
/// Canonical name of a module spelt either way.
std::string canonical_module_name(std::string_view module);

/// One tensor of a PEFT adapter file.
struct AdapterKey {
  std::string module;  ///< canonical module name
  std::string part;    ///< "lora_A", "lora_magnitude_vector", "token_adapter.trainable_tokens_delta", …
  std::string stored;  ///< module name as the key spells it
};

/// Takes `base_model.model.<module>.<part>[.default].weight` apart, both spellings of tower modules; nothing when the
/// name has another form.
std::optional<AdapterKey> parse_adapter_key(std::string_view key);

/// Canonical name of the module whose whole `weight` PEFT saved under this key beside LoRA (modules_to_save,
/// embeddings): `base_model.model.lm_head.weight`, with or without `modules_to_save[.default]` or `base_layer` in it.
/// Nothing for other keys.
std::optional<std::string> saved_module_of(std::string_view key);

/// The inverse, as PEFT saves such a module.
std::string saved_module_key(std::string_view canonical_module, bool text_only = false);

/// The key of an adapter tensor, in the released spelling unless the layout is kFlat.
std::string adapter_key(std::string_view canonical_module, std::string_view part, bool text_only = false,
                        KeyLayout layout = KeyLayout::kNested);

}  // namespace bezel::io
