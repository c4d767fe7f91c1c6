#include "bezel/gemma4/load.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <sstream>

#include <ATen/ATen.h>

#include "bezel/error.h"
#include "bezel/gemma4/source.h"
#include "bezel/quant/four_bit.h"
#include "bezel/quant/integer.h"
#include "bezel/quant/packed.h"

namespace bezel::gemma4 {
namespace {

using torch::Tensor;

std::string text_of(const std::vector<std::int64_t>& shape) {
  std::ostringstream out;
  out << '[';
  for (std::size_t i = 0; i < shape.size(); ++i) out << (i ? ", " : "") << shape[i];
  out << ']';
  return out.str();
}

void check_shape(const SourceTensor& found, const nn::Slot& slot, const char* config_name) {
  if (found.shape == slot.shape) return;
  throw Error(found.path(), ": tensor '", found.stored, "': got shape ", text_of(found.shape), ", ", config_name,
              " makes it ", text_of(slot.shape), "; config and weights are of different models");
}

Tensor floating(const SourceTensor& found) {
  const Tensor tensor = found.map();
  const auto type = tensor.scalar_type();
  if (type != torch::kFloat && type != torch::kBFloat16 && type != torch::kHalf)
    throw Error(found.path(), ": tensor '", found.stored, "': got dtype ", found.type_name(),
                ", expected F32, BF16 or F16");
  return tensor;
}

// Matrices stay as they are stored unless that is wider than what is computed in, or float16.
torch::ScalarType kept_dtype(torch::ScalarType stored, torch::ScalarType compute) {
  return stored == torch::kBFloat16 ? stored : compute;
}

void assign(const std::shared_ptr<const quant::Weight>& weight, const nn::Slot& slot, const LoadOptions& options) {
  slot.assign_weight(weight->device() == options.device ? weight : weight->to(options.device));
}

void fill_matrix(const Tensor& tensor, const std::string& module, const SourceTensor& found, const nn::Slot& slot,
                 const LoadOptions& options) {
  switch (storage_of(module, slot, options.storage)) {
    case quant::Storage::kDense:
      assign(quant::dense_weight(tensor, found.stored, kept_dtype(tensor.scalar_type(), options.dtype)), slot, options);
      return;
    case quant::Storage::kNf4:
      assign(quant::four_bit_weight(
                 quant::quantize_4bit(tensor, quant::FourBitType::kNf4, options.storage.double_quant), found.stored),
             slot, options);
      break;
    case quant::Storage::kInt8:
      assign(quant::integer_weight(quant::quantize_int8(tensor), found.stored), slot, options);
      break;
  }
  found.evict();
}

void fill_vector(const Tensor& tensor, const SourceTensor& found, const nn::Slot& slot, const LoadOptions& options) {
  const Tensor value = tensor.to(slot.wide ? torch::kFloat : options.dtype);
  const std::string& path = found.path();
  if (slot.kind == nn::SlotKind::kClipBound) {
    if (std::isnan(value.item<float>()))
      throw Error(path, ": clip bound '", found.stored, "': got NaN, expected a number or an infinity");
    slot.assign(value);
    return;
  }
  if (!std::isfinite(value.sum(torch::kFloat).item<float>()))
    throw Error(path, ": tensor '", found.stored, "': holds NaN or Inf; the checkpoint is damaged");
  slot.assign(value.to(options.device));
}

void check_bounds(const std::string& folder, const std::string& name, const nn::LinearImpl& linear) {
  if (!linear.clip) return;
  const nn::Clip& clip = *linear.clip;
  const auto ordered = [&](const char* what, double min, double max) {
    if (min > max) throw Error(folder, ": layer '", name, "': ", what, "_min ", min, " is above ", what, "_max ", max);
  };
  ordered("input", clip.input_min, clip.input_max);
  ordered("output", clip.output_min, clip.output_max);
}

void fill(torch::nn::Module& root, Source& source, const quant::StoredFormat& format, const LoadOptions& options) {
  for (const auto& item : root.named_modules()) {
    auto* module = dynamic_cast<nn::Module*>(item.value().get());
    if (module == nullptr) continue;
    for (const nn::Slot& slot : module->slots()) {
      const std::string canonical = item.key() + "." + slot.name;
      if (slot.kind == nn::SlotKind::kMatrix)  // a stack of experts bears the module's name
        if (const auto parts = source.take_parts(slot.name == "weight" ? item.key() : canonical);
            quant::is_quantized(parts)) {
          assign(quant::stored_weight(parts, slot.shape, format, source.path() + ": matrix '" + canonical + "'"), slot,
                 options);
          continue;
        }
      const SourceTensor* found = source.take(canonical);
      if (found == nullptr) {
        if (slot.kind == nn::SlotKind::kClipBound) continue;  // the reference leaves missing bounds infinite
        throw Error(source.path(), ": tensor '", canonical, "' is missing; ", source.config_name(), " makes it ",
                    text_of(slot.shape));
      }
      check_shape(*found, slot, source.config_name());
      if (slot.kind != nn::SlotKind::kMatrix)
        fill_vector(floating(*found), *found, slot, options);
      else if (found->is_packed())
        assign(quant::packed_weight(found->map(), found->gguf_entry.info->type, slot.shape, found->stored), slot,
               options);
      else
        fill_matrix(floating(*found), item.key(), *found, slot, options);
    }
    if (const auto* linear = dynamic_cast<nn::LinearImpl*>(module)) check_bounds(source.path(), item.key(), *linear);
  }
}

std::vector<std::string> leftovers(const Source& source, const ModelConfig& config) {
  std::vector<std::string> ignored;
  for (const auto& [canonical, found] : source.all()) {
    if (found.taken) continue;
    // A tied head may be stored beside the embeddings it equals.
    const bool tied_head = config.text.tie_word_embeddings && canonical == "lm_head.weight";
    if (!tied_head && !is_unused_kv(canonical, config.text))
      throw Error(found.path(), ": tensor '", found.stored, "' has no place in the model that ", source.config_name(),
                  " describes");
    ignored.push_back(found.stored);
  }
  return ignored;
}

}  // namespace

bool is_unused_kv(std::string_view name, const TextConfig& text) {
  for (std::int64_t i = text.num_layers - text.num_kv_shared_layers; i < text.num_layers; ++i) {
    const std::string prefix = "model.language_model.layers." + std::to_string(i) + ".self_attn.";
    if (!name.starts_with(prefix)) continue;
    const std::string_view rest = name.substr(prefix.size());
    return std::ranges::any_of(std::array{"k_proj.", "v_proj.", "k_norm.", "v_norm."},
                               [&](const char* part) { return rest.starts_with(part); });
  }
  return false;
}

quant::Storage storage_of(const std::string& module, const nn::Slot& slot, const quant::StorageOptions& options) {
  if (options.quantize_embeddings && module == "model.language_model.embed_tokens") return quant::Storage::kInt8;
  if (!slot.quantizable || options.storage == quant::Storage::kDense) return quant::Storage::kDense;
  const bool skipped =
      quant::is_skipped(module, options.skip) || quant::is_skipped(io::peft_module_name(module), options.skip);
  return skipped ? quant::Storage::kDense : options.storage;
}

LoadedModel load_model(const std::string& model, const LoadOptions& options) {
  LoadedModel loaded;
  const ModelConfig config = read_model_config(model);
  Source source(model);
  loaded.layout = io::detect_layout(source.stored_names());
  loaded.model = Model(config, options.dtype);
  fill(*loaded.model, source, config.quantization, options);
  loaded.ignored = leftovers(source, config);
  return loaded;
}

Model meta_model(const ModelConfig& config, torch::ScalarType dtype) {
  Model model(config, dtype);
  const auto options = at::TensorOptions(torch::kMeta).dtype(dtype);
  for (const auto& item : model->named_modules()) {
    auto* module = dynamic_cast<nn::Module*>(item.value().get());
    if (module == nullptr) continue;
    for (const nn::Slot& slot : module->slots()) {
      if (slot.kind == nn::SlotKind::kMatrix)
        slot.assign_weight(quant::dense_weight(at::empty(slot.shape, options), slot.name));
      else if (slot.kind == nn::SlotKind::kVector)
        slot.assign(at::empty(slot.shape, options));
    }
  }
  return model;
}

}  // namespace bezel::gemma4
