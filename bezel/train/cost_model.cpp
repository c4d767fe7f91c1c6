#include "bezel/train/cost_model.h"

#include <algorithm>
#include <chrono>
#include <map>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "bezel/gemma4/load.h"
#include "bezel/nn/weight_site.h"
#include "bezel/train/loss.h"
#include "bezel/train/memory.h"

namespace bezel::train {
namespace {

// The peak of a run over the smallest model, which holds next to nothing else.
constexpr std::int64_t kProcessBytes = std::int64_t{320} << 20;
// The gradient of the logits is as large as they are.
constexpr std::int64_t kLossElements = 2 * kLogitsAtATime;

std::int64_t elements(const std::vector<std::int64_t>& shape) {
  std::int64_t count = 1;
  for (const std::int64_t size : shape) count *= size;
  return count;
}

// Tables are read row by row, but for that of the tokens where the loss multiplies by it.
bool is_read(const nn::WeightSite& site, const gemma4::ModelConfig& config, const RunShape& run) {
  const gemma4::Place place = gemma4::place_of(site.module);
  if (site.role() == nn::MatrixRole::kEmbedding) return config.text.tie_word_embeddings && place.name == "embed_tokens";
  return place.part == nullptr || !place.part->media || run.media[*place.part->media];
}

// Codes and scales: blocks of 64, whose scales are 8 bits with a float32 for 256 of them, or rows with a float32 each.
std::int64_t matrix_bytes(const nn::WeightSite& site, const gemma4::Model& model,
                          const quant::StorageOptions& storage) {
  const std::int64_t count = elements(site.slot->shape), blocks = (count + 63) / 64;
  switch (gemma4::storage_of(site.module, *site.slot, storage)) {
    case quant::Storage::kNf4:
      return (count + 1) / 2 + (storage.double_quant ? blocks + (blocks + 255) / 256 * 4 : blocks * 4);
    case quant::Storage::kInt8:
      return count + count / site.slot->shape.back() * 4;
    case quant::Storage::kDense:
      break;
  }
  const bool is_narrow = model->config().dtype == "bfloat16" || model->dtype() == torch::kBFloat16;
  return count * (is_narrow ? 2 : 4);
}

// What a layer keeps for each row: the inputs of norms and projections, gate and up, and for attention what enters and
// leaves it.
std::int64_t bytes_per_row(const gemma4::LayerShape& layer, std::int64_t element_bytes) {
  return element_bytes * (8 * layer.hidden_size + 2 * layer.feed_forward + 6 * layer.attention);
}

class Counter {
 public:
  Counter(gemma4::Model& model, const lora::Selection& selection, const Work& work, bool recompute)
      : config_(model->config()), work_(work), trained_passes_(recompute ? 3 : 2) {
    for (const lora::Target& target : selection.targets) {
      ranks_[&target.adapter()] = target.rank;
      if (target.part->kind == gemma4::PartKind::kEncoder) adapted_[*target.part->media] = true;
    }
  }

  double site(const nn::WeightSite& site) const {
    if (site.role() == nn::MatrixRole::kEmbedding || site.role() == nn::MatrixRole::kHead) return 0;  // see head()
    const gemma4::Place place = gemma4::place_of(site.module);
    const double share = site.role() == nn::MatrixRole::kExperts ? static_cast<double>(config_.text.top_k_experts) /
                                                                       static_cast<double>(config_.text.num_experts)
                                                                 : 1.0;
    double flops = 2 * rows(place) * share * static_cast<double>(elements(site.slot->shape)) * passes(place);
    if (const auto rank = ranks_.find(site.adapter()); rank != ranks_.end()) {
      const std::int64_t in_and_out = site.slot->shape.back() + site.slot->shape.end()[-2];
      const std::int64_t experts = site.mixture != nullptr ? config_.text.top_k_experts : 1;  // that a row goes to
      flops += 6 * rows(place) * static_cast<double>(experts * rank->second * in_and_out);
    }
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
          4 * layer_rows(i) * reach * static_cast<double>(config_.text.num_heads * layer.head_dim) * trained_passes_;
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
    const bool labelled_only = layer >= config_.text.first_kv_shared_layer();
    return static_cast<double>(labelled_only ? work_.label_tokens : work_.tokens);
  }

  double rows(const gemma4::Place& place) const {
    if (place.part == nullptr) return static_cast<double>(work_.tokens);
    if (place.part->media) return static_cast<double>(work_.encoder_rows[*place.part->media]);
    return place.layer >= 0 ? layer_rows(place.layer) : static_cast<double>(work_.tokens);
  }

  /// Number of products of a row with a matrix: forward, recomputed forward, and backward where a gradient is needed.
  double passes(const gemma4::Place& place) const {
    const bool is_encoder = place.part != nullptr && place.part->kind == gemma4::PartKind::kEncoder;
    return is_encoder && !adapted_[*place.part->media] ? 1 : trained_passes_;
  }

  const gemma4::ModelConfig& config_;
  const Work& work_;
  double trained_passes_;
  input::PerKind<bool> adapted_;  // encoders
  std::map<const std::optional<nn::Adapter>*, std::int64_t> ranks_;
};

}  // namespace

std::int64_t activation_bytes(std::span<const gemma4::Part> parts, const StepSize& size, std::int64_t element_bytes,
                              bool recompute) {
  std::int64_t bytes = 0, largest = 0;
  for (const gemma4::Part& part : parts) {
    const std::int64_t rows = part.media ? size.encoder_rows[*part.media] : size.tokens;
    for (const gemma4::LayerShape& layer : part.layers) {
      const std::int64_t all = rows * bytes_per_row(layer, element_bytes);
      bytes += recompute ? rows * element_bytes * layer.input_width : all;
      largest = std::max(largest, all);
    }
  }
  return bytes + (recompute ? largest : 0);
}

StepSize largest_micro_batch(const TrainConfig& config, const BatchPlan& batches) {
  const data::Dataset& data = batches.train_data();
  std::size_t tokens = 0;
  input::PerKind<std::size_t> soft_tokens{};
  for (const std::size_t idx : batches.train_samples()) {
    const data::SampleSize& size = data.sample_size(idx);
    tokens = std::max(tokens, size.tokens);
    for (const input::MediaKind kind : input::kMediaKinds)
      soft_tokens[kind] = std::max(soft_tokens[kind], size.media[kind].soft_tokens);
  }
  // A pair's tokens are those of both answers, of which the shorter one is padded where they do not share a row.
  const std::int64_t padded = config.preference.has_pairs() && !batches.prefix_plan().shares ? 2 : 1;
  const auto of_all = [&](std::size_t most, std::int64_t times) {
    return config.micro_batch_size *
           (batches.packs() && most > 0 ? config.max_seq_length : times * static_cast<std::int64_t>(most));
  };
  StepSize size{.tokens = of_all(tokens, padded)};
  for (const input::MediaKind kind : input::kMediaKinds)
    size.encoder_rows[input::encoder_kind(kind)] +=
        of_all(soft_tokens[kind], 1) * data.options().media.rows_per_soft_token(kind);
  return size;
}

bool wants_recompute(const TrainConfig& config, const gemma4::ModelConfig& model, const BatchPlan& batches,
                     torch::Device device, std::vector<std::string>& notes) {
  if (config.gradient_checkpointing) return *config.gradient_checkpointing;
  if (!device.is_cpu()) return false;
  StepSize size = largest_micro_batch(config, batches);
  for (const input::MediaKind kind : input::kMediaKinds)
    if (!batches.has_media()[kind]) size.encoder_rows[kind] = 0;  // nothing is kept of an encoder without adapters
  const std::int64_t needed = activation_bytes(gemma4::parts_of(model), size, config.dtype == "float32" ? 4 : 2);
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
  const std::int64_t copy_bytes = run.on_device && element_bytes < 4 ? element_bytes : 0;  // see nn/narrow_factors
  MemoryNeed need{.process = kProcessBytes, .adapters = (16 + copy_bytes) * trainable_parameters};
  for (const nn::WeightSite& site : nn::weight_sites(*model)) {
    const bool stays = run.on_device && run.embeddings_on_host && site.module.ends_with("embed_tokens_per_layer");
    if (stays)
      need.host_tables += matrix_bytes(site, model, run.storage);
    else if (run.on_device || is_read(site, model->config(), run))
      need.weights += matrix_bytes(site, model, run.storage);
  }
  need.activations = activation_bytes(model->parts(), run.largest, element_bytes, run.recompute);
  need.loss = std::min(kLossElements, 2 * run.largest.tokens * model->config().text.vocab_size) * element_bytes;
  return need;
}

double training_flops(gemma4::Model& model, const lora::Selection& selection, const Work& work, bool recompute) {
  const Counter counter(model, selection, work, recompute);
  double flops = counter.attention() + counter.head();
  for (const nn::WeightSite& site : nn::weight_sites(*model)) flops += counter.site(site);
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
