#include "bezel/gemma4/load.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <map>
#include <sstream>

#include <ATen/ATen.h>

#include "bezel/error.h"
#include "bezel/gemma4/gguf_config.h"
#include "bezel/gemma4/model_files.h"
#include "bezel/gemma4/parts.h"
#include "bezel/gemma4/source.h"
#include "bezel/io/gguf_tower_map.h"
#include "bezel/nn/rms_norm.h"
#include "bezel/nn/weight_site.h"
#include "bezel/quant/four_bit.h"
#include "bezel/quant/grown.h"
#include "bezel/quant/integer.h"
#include "bezel/quant/packed.h"
#include "bezel/quant/shared_codes.h"

namespace bezel::gemma4 {
namespace {

using torch::Tensor;

// Last parts of names of the scales with which vLLM quantizes its cache.
constexpr std::array<std::string_view, 8> kCacheScales = {
    "k_scale", "v_scale", "q_scale", "kv_scale", "kv_cache_scale", "prob_scale", "k_zero_point", "v_zero_point"};
constexpr std::string_view kTokenEmbedding = "model.language_model.embed_tokens";
constexpr std::string_view kPerLayerEmbedding = "embed_tokens_per_layer";

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

// Assignments that wait until all processes have made their codes.
using Pending = std::vector<std::function<void()>>;

void fill_shared(const Tensor& tensor, quant::Storage storage, const std::string& name, const nn::Slot& slot,
                 const LoadOptions& options, Pending& pending) {
  if (storage == quant::Storage::kNf4)
    pending.push_back(
        [slot, options, name,
         codes = quant::share_4bit(*options.codes, tensor, quant::FourBitType::kNf4, options.storage.double_quant)] {
          assign(quant::four_bit_weight(codes(), name), slot, options);
        });
  else
    pending.push_back([slot, options, name, codes = quant::share_int8(*options.codes, tensor)] {
      assign(quant::integer_weight(codes(), name), slot, options);
    });
}

void fill_matrix(const Tensor& tensor, const std::string& module, const SourceTensor& found, const nn::Slot& slot,
                 const LoadOptions& options, Pending& pending) {
  const quant::Storage storage = storage_of(module, slot, options.storage);
  if (options.codes != nullptr && options.device.is_cpu() && storage != quant::Storage::kDense) {
    fill_shared(tensor, storage, found.stored, slot, options, pending);
    found.evict();
    return;
  }
  switch (storage) {
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

// The options for one module.
LoadOptions options_of(const std::string& module, LoadOptions options) {
  if (options.embeddings_on_host && module.ends_with(kPerLayerEmbedding)) options.device = torch::kCPU;
  return options;
}

// Which tensor is missing, by its name in the file that should have it.
std::string missing(const Source& source, const std::string& canonical) {
  if (const auto stored = source.is_gguf() ? io::gguf_tower_name(canonical) : std::nullopt)
    for (const auto& [name, tensor] : source.all())
      if (io::gguf_tower_name(name)) return tensor.path() + ": tensor '" + *stored + "' (" + canonical + ") is missing";
  return source.path() + ": tensor '" + canonical + "' is missing";
}

void fill_slot(const std::string& module, const nn::Slot& slot, Source& source, const quant::StoredFormat& format,
               const LoadOptions& given, Pending& pending) {
  const LoadOptions options = options_of(module, given);
  const std::string canonical = module + "." + slot.name;
  if (slot.kind == nn::SlotKind::kMatrix) {
    const auto parts = source.take_parts(slot.role == nn::MatrixRole::kExperts ? canonical : module);
    if (quant::is_quantized(parts)) {
      const std::string name = source.path() + ": matrix '" + canonical + "'";
      return assign(quant::stored_weight(parts, slot.shape, format, name), slot, options);
    }
  }
  const SourceTensor* found = source.take(canonical);
  if (found == nullptr) {
    if (slot.kind == nn::SlotKind::kClipBound) return;  // the reference leaves missing bounds infinite
    throw Error(missing(source, canonical), "; ", source.config_name(), " makes it ", text_of(slot.shape));
  }
  check_shape(*found, slot, source.config_name());
  if (slot.kind != nn::SlotKind::kMatrix)
    fill_vector(floating(*found), *found, slot, options);
  else if (found->is_packed())
    assign(quant::packed_weight(found->map(), found->gguf_entry.info->type, slot.shape, found->stored), slot, options);
  else
    fill_matrix(floating(*found), module, *found, slot, options, pending);
}

// What the files hold for a table of tokens that has more rows in the model.
nn::Slot stored_slot(const std::string& module, const nn::Slot& slot, const TextConfig& stored) {
  const bool per_layer = module.ends_with(kPerLayerEmbedding);
  if (module != kTokenEmbedding && !per_layer && slot.role != nn::MatrixRole::kHead) return slot;
  const std::int64_t rows = per_layer ? stored.vocab_size_per_layer : stored.vocab_size, wanted = slot.shape[0];
  if (rows == wanted) return slot;
  nn::Slot smaller = slot;
  smaller.shape[0] = rows;
  smaller.assign_weight = [assign = slot.assign_weight, wanted](std::shared_ptr<const quant::Weight> weight) {
    assign(quant::grown_weight(std::move(weight), wanted));
  };
  return smaller;
}

void fill(torch::nn::Module& root, Source& source, const ModelConfig& stored, const LoadOptions& options) {
  Pending pending;
  nn::for_each_module(root, [&](const std::string& name, nn::Module& module) {
    for (const nn::Slot& slot : module.slots())
      fill_slot(name, stored_slot(name, slot, stored.text), source, stored.quantization, options, pending);
  });
  if (options.codes != nullptr) options.codes->wait();
  for (const auto& assign_codes : pending) assign_codes();
  for (const nn::WeightSite& site : nn::linear_sites(root)) check_bounds(source.path(), site.module, *site.layer);
}

// A device's kernel for norms reads weights in the dtype of what it normalizes: those that this holds exactly stay so.
void narrow_norms(torch::nn::Module& root, const LoadOptions& options) {
  if (options.device.is_cpu() || options.dtype == torch::kFloat) return;
  nn::for_each_module(root, [&](const std::string&, nn::Module& module) {
    auto* norm = dynamic_cast<nn::RmsNormImpl*>(&module);
    if (norm == nullptr) return;
    const Tensor narrow = norm->weight.to(options.dtype);
    if (at::equal(narrow.to(torch::kFloat), norm->weight)) norm->weight = narrow;
  });
}

std::vector<std::string> leftovers(const Source& source, const ModelConfig& config) {
  std::vector<std::string> ignored;
  for (const auto& [canonical, found] : source.all()) {
    if (found.taken) continue;
    if (why_unused(canonical, config).empty())
      throw Error(found.path(), ": tensor '", found.stored, "' has no place in the model that ", source.config_name(),
                  " describes");
    ignored.push_back(found.stored);
  }
  return ignored;
}

// A tower whose bounds are all infinite was saved by a tool that lost them: nothing is clipped, as in transformers.
void warn_of_lost_bounds(torch::nn::Module& model, const std::string& folder, std::vector<std::string>& warnings) {
  std::map<std::string, std::pair<std::int64_t, std::int64_t>> clipped;  // by tower: layers, and those without a bound
  for (const nn::WeightSite& site : nn::linear_sites(model)) {
    if (!site.layer->clip) continue;
    const nn::Clip& clip = *site.layer->clip;
    auto& [layers, without] = clipped[std::string(place_of(site.module).part->label)];
    ++layers;
    without += std::isinf(clip.input_min) && std::isinf(clip.input_max) && std::isinf(clip.output_min) &&
               std::isinf(clip.output_max);
  }
  for (const auto& [tower, counts] : clipped)
    if (counts.first == counts.second) warnings.push_back(lost_bounds_warning(folder, tower, counts.first));
}

}  // namespace

std::string lost_bounds_warning(const std::string& folder, const std::string& tower, std::int64_t layers) {
  return folder + ": all clip bounds of the " + tower + " tower (" + std::to_string(layers) +
         " layers) are infinite or missing, so nothing is clipped in it; released checkpoints have finite ones: was " +
         "this one saved by a tool that loses them?";
}

std::string_view why_unused(std::string_view name, const ModelConfig& config) {
  if (config.text.tie_word_embeddings && name == "lm_head.weight")
    return "head that equals the embeddings it is tied to";
  if (is_unused_kv(name, config.text)) return "keys and values that the model does not compute";
  const std::string_view last = name.substr(name.rfind('.') + 1);
  if (last.ends_with("inv_freq") && name.find("rotary") != name.npos)
    return "rotary frequencies, which config.json gives";
  if (std::ranges::find(kCacheScales, last) != kCacheScales.end() || name.ends_with(".k_proj.output_scale") ||
      name.ends_with(".v_proj.output_scale"))
    return "scales of a quantized KV cache";
  const Part* part = place_of(name).part;
  return part != nullptr && part->media && !config.media()[*part->media] ? "tower that config.json does not describe"
                                                                         : "";
}

bool is_unused_kv(std::string_view name, const TextConfig& text) {
  const Place place = place_of(name);
  constexpr std::string_view kAttention = "self_attn.";
  if (place.part == nullptr || place.part->kind != PartKind::kDecoder || !place.name.starts_with(kAttention))
    return false;
  if (place.layer < 0 || place.layer >= text.num_layers) return false;
  const std::string_view below = place.name.substr(kAttention.size()), part = below.substr(0, below.find('.'));
  const TextLayerConfig& layer = text.layers[static_cast<std::size_t>(place.layer)];
  if (layer.kv_mode == KvMode::kReuse)
    return part == "k_proj" || part == "v_proj" || part == "k_norm" || part == "v_norm";
  return layer.key_is_value && part == "v_proj";
}

quant::Storage storage_of(const std::string& module, const nn::Slot& slot, const quant::StorageOptions& options) {
  if (options.quantize_embeddings && module == kTokenEmbedding) return quant::Storage::kInt8;
  if (!slot.quantizable || options.storage == quant::Storage::kDense) return quant::Storage::kDense;
  const bool skipped =
      quant::is_skipped(module, options.skip) || quant::is_skipped(io::peft_module_name(module), options.skip);
  return skipped ? quant::Storage::kDense : options.storage;
}

LoadedModel load_model(const std::string& model, const LoadOptions& options) {
  return load_model(ModelFiles{model}, options);
}

namespace {

ModelConfig read_stored_config(const ModelFiles& files) {
  if (files.mmproj.empty()) return read_model_config(files.model);
  if (!io::is_gguf_path(files.model))
    throw Error(ErrorKind::kConfig, files.model, ": a checkpoint folder, which has its towers itself; mmproj (",
                files.mmproj, ") is for a base that is a GGUF file: leave it out");
  return read_gguf_config(io::GgufModel::open(files.model, files.mmproj));
}

ModelConfig with_rows(ModelConfig config, std::int64_t num_tokens) {
  for (std::int64_t* rows : {&config.text.vocab_size, &config.text.vocab_size_per_layer})
    *rows = std::max(*rows, num_tokens);
  return config;
}

}  // namespace

ModelConfig read_model_config(const ModelFiles& files) {
  return with_rows(read_stored_config(files), files.num_tokens);
}

LoadedModel load_model(const ModelFiles& files, const LoadOptions& options) {
  LoadedModel loaded;
  const ModelConfig stored = read_stored_config(files), config = with_rows(stored, files.num_tokens);
  Source source(files.model, files.mmproj);
  if (const std::string foreign = source.foreign_name(); !foreign.empty()) throw Error(foreign);
  if (config.text.tie_word_embeddings) source.tie_embeddings_to_head();
  loaded.layout = io::detect_layout(source.stored_names());
  loaded.model = Model(config, options.dtype);
  fill(*loaded.model, source, stored, options);
  narrow_norms(*loaded.model, options);
  loaded.ignored = leftovers(source, config);
  loaded.warnings = config.warnings;
  warn_of_lost_bounds(*loaded.model, files.model, loaded.warnings);
  return loaded;
}

Model meta_model(const ModelConfig& config, torch::ScalarType dtype) {
  Model model(config, dtype);
  const auto options = at::TensorOptions(torch::kMeta).dtype(dtype);
  nn::for_each_module(*model, [&options](const std::string&, nn::Module& module) {
    for (const nn::Slot& slot : module.slots()) {
      if (slot.kind == nn::SlotKind::kMatrix)
        slot.assign_weight(quant::dense_weight(at::empty(slot.shape, options), slot.name));
      else if (slot.kind == nn::SlotKind::kVector)
        slot.assign(at::empty(slot.shape, options));
    }
  });
  return model;
}

}  // namespace bezel::gemma4
