#include "bezel/train/needs.h"

#include <algorithm>
#include <chrono>
#include <map>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "bezel/gemma4/load.h"

namespace bezel::train {
namespace {

// The peak of a run over the smallest model, which holds next to nothing else.
constexpr std::int64_t kProcessBytes = std::int64_t{320} << 20;
// train/loss makes that many logits at a time; the product before them is as large.
constexpr std::int64_t kLossElements = std::int64_t{2} << 25;

std::int64_t elements(const std::vector<std::int64_t>& shape) {
  std::int64_t count = 1;
  for (const std::int64_t size : shape) count *= size;
  return count;
}

bool is_read(std::string_view module, const gemma4::ModelConfig& config, const RunShape& run) {
  if (module == "model.language_model.embed_tokens_per_layer") return false;
  if (module == "model.language_model.embed_tokens") return config.text.tie_word_embeddings;
  if (module.find(".vision_tower.") != module.npos || module == "model.embed_vision.embedding_projection")
    return run.images;
  if (module.find(".audio_tower.") != module.npos || module == "model.embed_audio.embedding_projection")
    return run.recordings;
  return true;
}

// Codes and scales: blocks of 64, whose scales are 8 bits with a float32 for 256 of them, or rows with a float32 each.
std::int64_t matrix_bytes(const std::string& module, const nn::Slot& slot, const gemma4::Model& model,
                          const quant::StorageOptions& storage) {
  const std::int64_t count = elements(slot.shape), blocks = (count + 63) / 64;
  switch (gemma4::storage_of(module, slot, storage)) {
    case quant::Storage::kNf4:
      return (count + 1) / 2 + (storage.double_quant ? blocks + (blocks + 255) / 256 * 4 : blocks * 4);
    case quant::Storage::kInt8:
      return count + count / slot.shape.back() * 4;
    case quant::Storage::kDense:
      break;
  }
  const bool is_narrow = model->config().dtype == "bfloat16" || model->dtype() == torch::kBFloat16;
  return count * (is_narrow ? 2 : 4);
}

/// The number of a decoder layer, or -1.
std::int64_t layer_of(std::string_view module) {
  constexpr std::string_view kPrefix = "model.language_model.layers.";
  if (!module.starts_with(kPrefix)) return -1;
  return std::atoll(std::string(module.substr(kPrefix.size())).c_str());
}

/// How often the rows of a tower go through a matrix: forward, forward again, and back where a gradient goes on.
struct Passes {
  double language = 0, vision = 0, audio = 0;

  Passes(const lora::Selection& selection, bool recompute) {
    const auto adapts = [&](lora::Tower tower) {
      return std::ranges::any_of(selection.targets, [&](const lora::Target& target) { return target.tower == tower; });
    };
    const double trained = recompute ? 3 : 2;
    language = trained;
    vision = adapts(lora::Tower::kVision) ? trained : 1;
    audio = adapts(lora::Tower::kAudio) ? trained : 1;
  }
};

class Counter {
 public:
  Counter(gemma4::Model& model, const lora::Selection& selection, const Work& work, bool recompute)
      : config_(model->config()), work_(work), passes_(selection, recompute) {
    for (const lora::Target& target : selection.targets) ranks_[target.layer.ptr().get()] = target.rank;
  }

  double module(const std::string& name, const nn::Module& module) const {
    double flops = 0;
    for (const nn::Slot& slot : module.slots()) {
      if (slot.kind != nn::SlotKind::kMatrix || name.find("embed_tokens") != name.npos) continue;
      const double share = slot.shape.size() == 3 ? static_cast<double>(config_.text.top_k_experts) /
                                                        static_cast<double>(config_.text.num_experts)
                                                  : 1.0;
      flops += 2 * rows(name) * share * static_cast<double>(elements(slot.shape)) * passes(name);
    }
    const auto* linear = dynamic_cast<const nn::LinearImpl*>(&module);
    if (const auto rank = ranks_.find(linear); linear != nullptr && rank != ranks_.end())
      flops += 6 * rows(name) * static_cast<double>(rank->second * (linear->in_features + linear->out_features));
    return flops;
  }

  /// Scores and sums of each layer: half of the positions within its window are before a token.
  double attention() const {
    const double length =
        static_cast<double>(work_.tokens) / static_cast<double>(std::max<std::int64_t>(1, work_.samples));
    double flops = 0;
    for (std::int64_t i = 0; i < config_.text.num_layers; ++i) {
      const gemma4::TextLayerConfig& layer = config_.text.layers[static_cast<std::size_t>(i)];
      const double reach = layer.type == gemma4::LayerType::kFull
                               ? length / 2
                               : std::min(length / 2, static_cast<double>(config_.text.sliding_window));
      flops +=
          4 * layer_rows(i) * reach * static_cast<double>(config_.text.num_heads * layer.head_dim) * passes_.language;
    }
    return flops;
  }

  /// The output matrix, over labelled tokens, forward and back.
  double head() const {
    return 4 * static_cast<double>(work_.label_tokens) *
           static_cast<double>(config_.text.vocab_size * config_.text.hidden_size);
  }

 private:
  double layer_rows(std::int64_t layer) const {
    const bool labelled_only = layer >= config_.text.num_layers - config_.text.num_kv_shared_layers;
    return static_cast<double>(labelled_only ? work_.label_tokens : work_.tokens);
  }

  double rows(std::string_view name) const {
    if (const std::int64_t layer = layer_of(name); layer >= 0) return layer_rows(layer);
    if (name == "lm_head") return 0;  // counted by head()
    if (name.find("vision") != name.npos) return static_cast<double>(work_.image_patches);
    if (name.find("audio") != name.npos) return static_cast<double>(work_.audio_frames);
    return static_cast<double>(work_.tokens);
  }

  double passes(std::string_view name) const {
    if (name.find("vision_tower") != name.npos) return passes_.vision;
    if (name.find("audio_tower") != name.npos) return passes_.audio;
    return passes_.language;
  }

  const gemma4::ModelConfig& config_;
  const Work& work_;
  Passes passes_;
  std::map<const nn::LinearImpl*, std::int64_t> ranks_;
};

}  // namespace

bool wants_recompute(const TrainConfig& config, const gemma4::ModelConfig& model, const RunBatches& batches,
                     torch::Device device, std::vector<std::string>& notes) {
  if (config.gradient_checkpointing) return *config.gradient_checkpointing;
  if (!device.is_cpu()) return false;
  constexpr std::int64_t kMaxAudioFrames = 750;  // 30 s
  const auto& image = batches.train_data().options().media.image;
  StepSize size{.tokens = config.micro_batch_size * config.max_seq_length};
  const auto most_soft_tokens = [&](std::int64_t of_sample) {
    return batches.packs() ? size.tokens : config.micro_batch_size * of_sample;
  };
  if (batches.has_images())
    size.image_patches = most_soft_tokens(image.max_soft_tokens) * image.pooling * image.pooling;
  if (batches.has_recordings()) size.audio_frames = most_soft_tokens(kMaxAudioFrames);
  const std::int64_t needed = activation_bytes(model, size, config.dtype == "float32" ? 4 : 2);
  const std::int64_t available = available_memory_bytes();
  if (needed <= available / 2) return false;
  const auto mib = [](std::int64_t bytes) { return std::to_string(bytes >> 20) + " MiB"; };
  notes.push_back("gradient_checkpointing: on, since a micro-batch of " + std::to_string(size.tokens) +
                  " tokens may keep " + mib(needed) + " for its backward pass, and " + mib(available) +
                  " are free; gradient_checkpointing: false keeps it off");
  return true;
}

MemoryNeed memory_need(gemma4::Model& model, std::int64_t trainable_parameters, const RunShape& run) {
  const std::int64_t element_bytes = model->dtype() == torch::kFloat ? 4 : 2;
  MemoryNeed need{.process = kProcessBytes, .adapters = 16 * trainable_parameters};
  for (const auto& item : model->named_modules()) {
    const auto* module = dynamic_cast<const nn::Module*>(item.value().get());
    if (module == nullptr || !is_read(item.key(), model->config(), run)) continue;
    for (const nn::Slot& slot : module->slots())
      if (slot.kind == nn::SlotKind::kMatrix) need.weights += matrix_bytes(item.key(), slot, model, run.storage);
  }
  need.activations = activation_bytes(model->config(), run.largest, element_bytes, run.recompute);
  need.loss = std::min(kLossElements, 2 * run.largest.tokens * model->config().text.vocab_size) * element_bytes;
  return need;
}

double training_flops(gemma4::Model& model, const lora::Selection& selection, const Work& work, bool recompute) {
  const Counter counter(model, selection, work, recompute);
  double flops = counter.attention() + counter.head();
  for (const auto& item : model->named_modules())
    if (const auto* module = dynamic_cast<const nn::Module*>(item.value().get()))
      flops += counter.module(item.key(), *module);
  return flops;
}

double product_flops_per_s(torch::ScalarType dtype) {
  using Clock = std::chrono::steady_clock;
  constexpr std::int64_t kRows = 512, kIn = 2048, kOut = 4096;
  const at::NoGradGuard no_grad;
  const auto weight = quant::dense_weight(at::ones({kOut, kIn}, at::TensorOptions(dtype)), "probe");
  const torch::Tensor x = at::ones({kRows, kIn}, at::TensorOptions(dtype));
  weight->matmul(x);  // the first call sets things up
  const auto begin = Clock::now();
  std::int64_t times = 0;
  double seconds = 0;
  while (seconds < 0.2) {
    weight->matmul(x);
    ++times;
    seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  }
  return 2.0 * kRows * kIn * kOut * static_cast<double>(times) / seconds;
}

}  // namespace bezel::train
