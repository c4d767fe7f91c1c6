#include "bezel/train/reference_pass.h"

#include <chrono>
#include <filesystem>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "bezel/io/sha256.h"
#include "bezel/io/torn_map.h"
#include "bezel/lora/adapter_io.h"
#include "bezel/lora/file_names.h"
#include "bezel/train/preference_objective.h"
#include "bezel/train/residency.h"

namespace bezel::train {
namespace {

// An hour of work should not be lost, and a file a second would be one too many.
constexpr std::chrono::seconds kSaveInterval(30);

std::string adapter_hash(const std::string& folder) {
  if (folder.empty()) return "";
  std::error_code error;
  if (!std::filesystem::exists(folder, error)) return kLostAdapter;
  const std::string config = (std::filesystem::path(folder) / lora::kAdapterConfig).string();
  return io::sha256(io::sha256_file(lora::find_weights(folder)) + io::sha256_file(config));
}

// With the rows of mismatched answers, where there are some.
void ask(gemma4::Model& model, const data::Batch& batch, torch::Device device, const Residency& residency,
         ReferenceLogps& reference) {
  const data::Batch moved = device.is_cpu() ? batch : batch.to(device);
  const torch::Tensor logps = answer_logps(model, moved, residency.observer()).sums.cpu();
  const auto& answers = batch.preferences->answers;
  for (std::size_t i = 0; i < answers.size(); ++i)
    reference.set(answers[i], logps[static_cast<std::int64_t>(i)].item<float>());
  if (batch.preferences->mismatched) ask(model, *batch.preferences->mismatched, device, residency, reference);
}

}  // namespace

std::string reference_path(const TrainConfig& config) {
  return (std::filesystem::path(config.output_dir) / "reference_logps.safetensors").string();
}

ReferenceFacts reference_facts(const TrainConfig& config, const RunFacts& facts, const BatchPlan& batches) {
  std::string text = std::to_string(batches.num_answers()) + "\n";
  const auto add = [&text](const std::string& key, const std::string& value) { text += key + "=" + value + "\n"; };
  for (const auto& [name, hash] : facts.inputs) add(name, hash);
  for (const auto& [name, value] : facts.machine)
    if (name != "ranks") add(name, value);  // every sample is asked by itself
  const bool is_labelled = config.preference.has_labels();
  add("labelled", is_labelled ? "true" : "false");
  for (const char* key :
       {"dtype", "storage", "quantize_skip", "quantize_embeddings", "max_seq_length", "max_soft_tokens",
        "image_attention", "video_frames", "video_fps", "video_soft_tokens", "chat_format", "mask_history"})
    add(key, facts.config.at(key));
  // Which answers are put to which prompts.
  if (is_labelled)
    for (const char* key : {"micro_batch_size", "val_set_size", "seed"}) add(key, facts.config.at(key));
  return {.inputs = io::sha256(text), .adapter = adapter_hash(config.init_adapter)};
}

std::vector<std::int64_t> missing_samples(const BatchPlan& batches, const ReferenceLogps& reference) {
  std::vector<std::int64_t> missing;
  for (std::int64_t i = 0; i < batches.num_reference_batches(); ++i) {
    const std::int64_t answer = batches.reference_answer(i);
    if (!reference.has(answer) || !reference.has(answer + 1)) missing.push_back(i);
  }
  return missing;
}

bool compute_reference(gemma4::Model& model, torch::Device device, DataLoader& feed, const ReferencePass& pass,
                       ReferenceLogps& reference) {
  const at::NoGradGuard no_grad;
  model->eval();
  const Residency residency(model);
  const auto next = feed.reference_batches(pass.samples);
  auto saved = std::chrono::steady_clock::now();
  bool stopped = false;
  for (std::size_t done = 0; done < pass.samples.size() && !stopped;) {
    if (const data::Batch batch = next(); batch.num_tokens > 0) ask(model, batch, device, residency, reference);
    ++done;
    if (pass.on_progress) pass.on_progress(done, pass.samples.size());
    stopped = done < pass.samples.size() && pass.should_stop && pass.should_stop();
    if (std::chrono::steady_clock::now() - saved < kSaveInterval && !stopped) continue;
    io::throw_if_torn();
    reference.save();
    saved = std::chrono::steady_clock::now();
  }
  io::throw_if_torn();
  reference.save();
  return !stopped;
}

}  // namespace bezel::train
