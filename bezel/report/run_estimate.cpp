#include "bezel/report/run_estimate.h"

#include <algorithm>

#include "bezel/gemma4/load.h"
#include "bezel/lora/adapter_io.h"
#include "bezel/train/device.h"
#include "bezel/train/run_check.h"

namespace bezel::report {
namespace {

lora::Selection selection_of(gemma4::Model& model, const train::TrainConfig& config, const train::RunBatches& batches) {
  const bool text_only = model->config().text_only;
  if (!config.init_adapter.empty()) return lora::load_adapter(*model, config.init_adapter, text_only).selection;
  return lora::select_targets(*model, config.lora, {text_only, batches.has_images(), batches.has_recordings()});
}

// The mean sample, as often as the steps see one.
train::Work work_of(const DataCheck& check, const RunEstimate& run, std::int64_t patches_per_token) {
  const auto whole_passes = static_cast<double>(run.total_steps) / static_cast<double>(run.steps_per_epoch);
  const auto scaled = [&](std::size_t of_all) {
    const double mean =
        static_cast<double>(of_all) / static_cast<double>(std::max<std::size_t>(1, check.lengths.size()));
    return static_cast<std::int64_t>(mean * static_cast<double>(run.num_train) * whole_passes);
  };
  const auto samples = static_cast<std::int64_t>(static_cast<double>(run.num_train) * whole_passes);
  return {.samples = std::max<std::int64_t>(1, samples),
          .tokens = scaled(check.tokens()),
          .label_tokens = scaled(check.label_tokens),
          .image_patches = scaled(check.image_tokens) * patches_per_token,
          .audio_frames = scaled(check.audio_tokens)};
}

// A packed row may be as long as rows may be, and hold nothing but media.
train::StepSize largest_batch(const DataCheck& check, const train::TrainConfig& config, bool packs,
                              std::int64_t patches_per_token) {
  const auto rows = [&](std::size_t most) {
    const auto row = static_cast<std::int64_t>(most);
    return config.micro_batch_size * (packs && row > 0 ? config.max_seq_length : row);
  };
  return {.tokens = rows(check.longest()),
          .image_patches = rows(check.most_image_tokens) * patches_per_token,
          .audio_frames = rows(check.most_audio_tokens)};
}

}  // namespace

io::Json memory_json(const train::MemoryNeed& need) {
  return {{"process", need.process},         {"weights", need.weights}, {"adapters", need.adapters},
          {"activations", need.activations}, {"loss", need.loss},       {"total", need.total()}};
}

RunEstimate estimate_run(const train::TrainConfig& config, const train::RunBatches& batches, const DataCheck& check) {
  const gemma4::ModelConfig model_config = gemma4::read_model_config(config.base_model);
  const torch::ScalarType dtype = config.dtype == "float32" ? torch::kFloat : torch::kBFloat16;
  gemma4::Model model = gemma4::meta_model(model_config, dtype);
  const lora::Selection selection = selection_of(model, config, batches);
  RunEstimate run{.towers = selection.counts(),
                  .num_train = batches.num_train(),
                  .num_eval = batches.num_eval(),
                  .packs = batches.packs(),
                  .num_rows = batches.num_rows(),
                  .steps_per_epoch = batches.steps_per_epoch(),
                  .total_steps = batches.total_steps(),
                  .available_bytes = train::available_memory_bytes(),
                  .notes = train::check_learns(config, batches.total_steps())};
  train::check_towers_see_data(run.towers, batches);
  run.recompute = train::wants_recompute(config, model_config, batches, train::choose_device(config.device), run.notes);
  const auto& image = batches.train_data().options().media.image;
  const std::int64_t patches_per_token = image.pooling * image.pooling;
  run.memory = train::memory_need(model, selection.parameters(),
                                  {.storage = {.storage = quant::parse_storage(config.storage),
                                               .skip = config.quantize_skip,
                                               .quantize_embeddings = config.quantize_embeddings},
                                   .images = check.images > 0,
                                   .recordings = check.recordings > 0,
                                   .recompute = run.recompute,
                                   .largest = largest_batch(check, config, run.packs, patches_per_token)});
  run.work = work_of(check, run, patches_per_token);
  run.flops = train::training_flops(model, selection, run.work, run.recompute);
  run.flops_per_s = train::product_flops_per_s(dtype);
  return run;
}

}  // namespace bezel::report
