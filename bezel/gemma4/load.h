#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "bezel/gemma4/model.h"
#include "bezel/io/checkpoint.h"
#include "bezel/io/key_map.h"
#include "bezel/quant/options.h"

namespace bezel::gemma4 {

struct LoadOptions {
  torch::ScalarType dtype = torch::kBFloat16;  ///< what activations are computed in: float32 or bfloat16
  torch::Device device = torch::kCPU;
  quant::StorageOptions storage{};  ///< what dense matrices become; those stored in codes stay as they are
};

/// A model with its weights, and what was seen on the way.
struct LoadedModel {
  Model model{nullptr};
  io::KeyLayout layout = io::KeyLayout::kNested;
  std::vector<std::string> ignored;  ///< stored names of the k/v tensors of KV-sharing layers
};

/// Loads a Gemma 4 checkpoint folder, or the language model in a GGUF file, strictly: a tensor that is missing, left
/// over (except the k_proj, v_proj, k_norm and v_norm that checkpoints carry for KV-sharing layers) or of another shape
/// than the config says is an Error that names it. Matrices stay mapped, as they are stored; float16 ones and those
/// wider than `dtype` are converted when they are first used, and with options.storage they are quantised one after the
/// other, the pages of the file given back; those that a GGUF file packs into blocks stay so. Vectors are kept in
/// `dtype`. Clip bounds may be missing: they stay infinite, as in the reference.
LoadedModel load_model(const std::string& model, const LoadOptions& options);

/// Whether `name`, a canonical one, is among the k_proj, v_proj, k_norm and v_norm that checkpoints carry for layers
/// which read another layer's keys and values.
bool is_unused_kv(std::string_view name, const TextConfig& text);

/// How load_model keeps the dense matrix `slot` of `module`.
quant::Storage storage_of(const std::string& module, const nn::Slot& slot, const quant::StorageOptions& options);

/// The same model without weights on the `meta` device, for shape passes.
Model meta_model(const ModelConfig& config, torch::ScalarType dtype);

}  // namespace bezel::gemma4
