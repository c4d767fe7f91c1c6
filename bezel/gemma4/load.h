#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "bezel/gemma4/model.h"
#include "bezel/io/checkpoint.h"
#include "bezel/io/key_map.h"
#include "bezel/quant/options.h"

namespace bezel::quant {
class SharedMemory;
}

namespace bezel::gemma4 {

struct LoadOptions {
  torch::ScalarType dtype = torch::kBFloat16;  ///< what activations are computed in: float32 or bfloat16
  torch::Device device = torch::kCPU;
  quant::StorageOptions storage{};       ///< what dense matrices become; those stored quantized stay as they are
  bool embeddings_on_host = false;       ///< the per-layer embeddings stay on the CPU, whatever the device
  quant::SharedMemory* codes = nullptr;  ///< of processes that load the same model: codes on the CPU are made once
};

/// A model with its weights, and what was seen on the way.
struct LoadedModel {
  Model model{nullptr};
  io::KeyLayout layout = io::KeyLayout::kNested;
  std::vector<std::string> ignored;   ///< stored names of the tensors that are not used, see why_unused
  std::vector<std::string> warnings;  ///< those of the config, and clip bounds that are all infinite
};

/// Loads a Gemma 4 checkpoint folder, or the language model in a GGUF file, strictly: a tensor that is missing, left
/// over (unless why_unused knows it) or of another shape than the config says is an Error that names it. So is a name
/// in the spelling of a wrapper or another tool that transformers does not read either. Matrices stay mapped, as they
/// are stored; float16 ones and those wider than `dtype` are converted when they are first used, and with
/// options.storage they are quantized one after the other, the pages of the file given back; those that a GGUF file
/// packs into blocks stay so. Vectors are kept in `dtype`. Clip bounds may be missing: they stay infinite, as in the
/// reference.
LoadedModel load_model(const std::string& model, const LoadOptions& options);

/// The warning about a tower whose clipped layers have no finite bound.
std::string lost_bounds_warning(const std::string& folder, const std::string& tower, std::int64_t layers);

/// Why a checkpoint's tensor of canonical `name` may be left out, as transformers leaves it out; "" when it may not.
std::string_view why_unused(std::string_view name, const ModelConfig& config);

/// Whether `name`, a canonical one, is among the k_proj, v_proj, k_norm and v_norm of layers that read another layer's
/// keys and values, or the v_proj of a layer whose keys are its values.
bool is_unused_kv(std::string_view name, const TextConfig& text);

/// How load_model keeps the dense matrix `slot` of `module`.
quant::Storage storage_of(const std::string& module, const nn::Slot& slot, const quant::StorageOptions& options);

/// The same model without weights on the `meta` device, for shape passes.
Model meta_model(const ModelConfig& config, torch::ScalarType dtype);

}  // namespace bezel::gemma4
