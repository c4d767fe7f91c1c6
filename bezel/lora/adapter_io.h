#pragma once

#include <map>
#include <string>

#include "bezel/lora/targets.h"

namespace bezel::lora {

/// The tensors of a layer as an adapter file holds them.
struct StoredPair {
  std::string a_key, b_key, magnitude_key;
  std::string stored;         ///< the module in the file's own spelling: the one that the patterns beside it are about
  torch::Tensor a, b;         ///< mapped; as they are stored
  torch::Tensor magnitude{};  ///< of DoRA
  bool is_embedding = false;  ///< lora_embedding_A [rank, V] and lora_embedding_B [H, rank]
};

/// Throws Error unless A is [rank, in], B is [out, rank] and both are finite.
void check_pair(const StoredPair& pair, const std::string& source);

/// A whole matrix that PEFT saved beside LoRA: embeddings, the head, modules_to_save; or rows of one.
struct SavedMatrix {
  std::string key;
  std::string module;  ///< canonical
  torch::Tensor tensor;
  bool is_rows = false;  ///< of trainable_token_indices
};

/// The file with the tensors of a PEFT adapter folder. Throws Error when no file is safe to read.
std::string find_weights(const std::string& folder);

/// What that file holds, by canonical module name. Throws Error on a tensor that is not LoRA's, one that is there
/// twice, and a lora_A or lora_B without the other. With `saved`, whole matrices of embeddings and head go there.
std::map<std::string, StoredPair> read_pairs(const std::string& path, std::vector<SavedMatrix>* saved = nullptr);

/// Gives the pairs of stacked experts in `pairs` the names of their matrices, where target_parameters name them.
void name_expert_pairs(const LoraConfig& config, std::map<std::string, StoredPair>& pairs);

/// Where an adapter belongs, as adapter_config.json says it.
struct AdapterBase {
  std::string path;  ///< base_model_name_or_path
  std::string architecture = "Gemma4ForConditionalGeneration";
  std::string image_attention = {};  ///< the rule that it is trained with, where a model knows several
};

/// Writes adapter_model.safetensors and adapter_config.json into `folder`, which exists; each is written wholly or not
/// at all, the config last. Keys and names are in the released spelling, tensors float32.
void save_adapter(const std::string& folder, const Selection& selection, const LoraConfig& config,
                  const AdapterBase& base);

/// adapter_config.json of an adapter folder, with the towers of its tensors. Throws Error as
/// read_adapter_config() and read_pairs().
LoraConfig read_lora_config(const std::string& folder);

/// An adapter that was read.
struct LoadedAdapter {
  LoraConfig config;
  Selection selection;  ///< its layers, adapters attached and trainable
  std::string base_model;
  std::string image_attention;     ///< as AdapterConfig has it
  std::vector<std::string> notes;  ///< tensors of the adapter that were skipped, and layers that it has no tensors for
};

/// Reads a PEFT adapter folder, in either spelling of the keys of towers and of the unified model's embedder, and for
/// either class of the model (names with and without `language_model`), and attaches it to `model`. The tensors say
/// which layers: others that target_modules selects stay as in the base. Float16 and bfloat16 tensors become float32.
/// Keys and values of layers that compute none are skipped, and so are matrices saved beside LoRA that equal the
/// base's. Nothing is attached when anything is wrong: Error names a key that fits no layer of the model or that
/// target_modules does not cover, a lora_A without its lora_B, a rank or width that does not fit, a saved matrix that
/// was trained but is not in modules_to_save, NaN and Inf, and a folder that holds adapter_model.bin only.
LoadedAdapter load_adapter(torch::nn::Module& model, const std::string& folder, bool text_only = false);

}  // namespace bezel::lora
