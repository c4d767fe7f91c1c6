#include "bezel/train/run.h"

#include <ATen/Parallel.h>
#include <ATen/Utils.h>
#include <torch/cuda.h>

#include "bezel/data/template_check.h"
#include "bezel/error.h"
#include "bezel/gemma4/load.h"
#include "bezel/lora/adapter_io.h"
#include "bezel/train/batches.h"
#include "bezel/train/forward.h"
#include "bezel/train/memory.h"
#include "bezel/train/output.h"

namespace bezel::train {
namespace {

torch::Device choose_device(const std::string& name) {
  const bool has_cuda = torch::cuda::is_available();
  if (name == "auto") return has_cuda ? torch::kCUDA : torch::kCPU;
  const torch::Device device(name);
  if (device.is_cuda() && !has_cuda)
    throw Error(ErrorKind::kConfig, "device '", name, "': this LibTorch sees no CUDA device; use device: cpu");
  return device;
}

/// A tower that is adapted and never sees data would stay as it is, silently.
void check_towers_see_data(const std::vector<lora::TowerCount>& counts, const RunBatches& batches) {
  for (const lora::TowerCount& count : counts) {
    if (count.tower == lora::Tower::kVision && !batches.has_images())
      throw Error(ErrorKind::kConfig, "lora_towers has vision, but no training sample has a picture");
    if (count.tower == lora::Tower::kAudio && !batches.has_recordings())
      throw Error(ErrorKind::kConfig, "lora_towers has audio, but no training sample has a recording");
  }
}

lora::Selection adapt(gemma4::Model& model, TrainConfig& config, const RunBatches& batches) {
  const bool text_only = model->config().text_only;
  if (config.init_adapter.empty()) {
    lora::Selection selection =
        lora::select_targets(*model, config.lora, {text_only, batches.has_images(), batches.has_recordings()});
    lora::attach(selection, config.lora);
    return selection;
  }
  lora::LoadedAdapter loaded = lora::load_adapter(*model, config.init_adapter, text_only);
  const double dropout = config.lora.dropout;
  config.lora = loaded.config;
  config.lora.dropout = dropout;
  for (const lora::Target& target : loaded.selection.targets) target.layer.ptr()->adapter->dropout = dropout;
  return loaded.selection;
}

LossFunction loss_function(gemma4::Model model, torch::Device device) {
  return [model, device](const data::Batch& on_host) mutable {
    const data::Batch batch = device.is_cpu() ? on_host : on_host.to(device);
    return loss_sum(model, batch);
  };
}

/// Whether the layers should run again in the backward pass: as told, or where the largest micro-batch would otherwise
/// take more than half of the memory that is left. Samples are taken to hold one picture and one recording at most.
bool wants_recompute(const TrainConfig& config, const gemma4::ModelConfig& model, const RunBatches& batches,
                     torch::Device device, std::vector<std::string>& notes) {
  if (config.gradient_checkpointing) return *config.gradient_checkpointing;
  if (!device.is_cpu()) return false;
  constexpr std::int64_t kMaxAudioFrames = 750;  // 30 s
  const auto& image = batches.train_data().options().media.image;
  StepSize size{.tokens = config.micro_batch_size * config.max_seq_length};
  if (batches.has_images())
    size.image_patches = config.micro_batch_size * image.max_soft_tokens * image.pooling * image.pooling;
  if (batches.has_recordings()) size.audio_frames = config.micro_batch_size * kMaxAudioFrames;
  const std::int64_t needed = activation_bytes(model, size, config.dtype == "float32" ? 4 : 2);
  const std::int64_t available = available_memory_bytes();
  if (needed <= available / 2) return false;
  const auto mib = [](std::int64_t bytes) { return std::to_string(bytes >> 20) + " MiB"; };
  notes.push_back("gradient_checkpointing: on, since a micro-batch of " + std::to_string(size.tokens) +
                  " tokens may keep " + mib(needed) + " for its backward pass, and " + mib(available) +
                  " are free; gradient_checkpointing: false keeps it off");
  return true;
}

TrainerOptions trainer_options(const TrainConfig& config, const RunBatches& batches) {
  TrainerOptions options;
  options.total_steps = batches.total_steps();
  options.steps_per_epoch = batches.steps_per_epoch();
  options.max_grad_norm = config.max_grad_norm;
  options.adam = {config.adam_beta1, config.adam_beta2, config.adam_epsilon, config.weight_decay};
  const std::int64_t warmup =
      config.warmup_steps.value_or(warmup_steps_from_ratio(config.warmup_ratio, options.total_steps));
  const Schedule schedule{config.lr_scheduler, config.learning_rate, warmup, options.total_steps};
  options.learning_rate = [schedule](std::int64_t step) { return schedule.rate(step); };
  options.logging_steps = config.logging_steps;
  options.eval_steps = config.eval_steps.value_or(batches.steps_per_epoch());
  options.save_steps = config.save_steps;
  return options;
}

/// What the user should know beside the plan; a chat_format other than auto says that the template is no surprise.
std::vector<std::string> make_notes(const TrainConfig& config) {
  std::vector<std::string> notes;
  if (config.chat_format == "auto")
    if (std::string warning = data::foreign_template_warning(config.base_model); !warning.empty())
      notes.push_back(std::move(warning));
  if (!config.init_adapter.empty())
    notes.push_back("rank, alpha and layers are those of init_adapter " + config.init_adapter);
  return notes;
}

RunPlan make_plan(const lora::Selection& selection, const RunBatches& batches, torch::Device device,
                  std::vector<std::string> notes) {
  RunPlan plan;
  plan.towers = selection.counts();
  plan.data = batches.train_data().report();
  plan.num_samples = batches.num_train();
  plan.num_eval_samples = batches.num_eval();
  plan.steps_per_epoch = batches.steps_per_epoch();
  plan.total_steps = batches.total_steps();
  plan.device = device.str();
  plan.notes = std::move(notes);
  return plan;
}

}  // namespace

RunResult run_training(const TrainConfig& wanted, const RunEvents& events) {
  keep_freed_memory();
  TrainConfig config = wanted;
  const torch::Device device = choose_device(config.device);
  const gemma4::ModelConfig model_config = gemma4::read_model_config(config.base_model);
  RunBatches batches(config, model_config);
  std::vector<std::string> notes = make_notes(config);
  OutputFolder output(config);
  if (config.threads) at::set_num_threads(static_cast<int>(*config.threads));
  torch::manual_seed(static_cast<std::uint64_t>(config.seed));

  const torch::ScalarType dtype = config.dtype == "float32" ? torch::kFloat : torch::kBFloat16;
  gemma4::Model model = gemma4::load_model(config.base_model, {dtype,
                                                               device,
                                                               {.storage = quant::parse_storage(config.storage),
                                                                .skip = config.quantize_skip,
                                                                .quantize_embeddings = config.quantize_embeddings}})
                            .model;
  const lora::Selection selection = adapt(model, config, batches);
  check_towers_see_data(selection.counts(), batches);
  model->set_recompute(wants_recompute(config, model_config, batches, device, notes));
  output.start(config);
  if (events.on_start) events.on_start(make_plan(selection, batches, device, std::move(notes)));

  const lora::AdapterBase base{config.base_model,
                               model_config.text_only ? "Gemma4ForCausalLM" : "Gemma4ForConditionalGeneration"};
  Trainer trainer(*model, selection, loss_function(model, device), trainer_options(config, batches));
  TrainerEvents inner;
  inner.on_step = [&](const StepReport& report) {
    output.add(report);
    if (events.on_step) events.on_step(report);
  };
  inner.on_eval = [&](const EvalReport& report) {
    output.add(report);
    if (events.on_eval) events.on_eval(report);
  };
  inner.on_save = [&](std::int64_t step) {
    output.save_checkpoint(step, selection, base);
    if (events.on_save) events.on_save(output.path() + "/checkpoint-" + std::to_string(step));
  };
  inner.should_stop = events.should_stop;
  BatchSource source;
  source.train = [&](std::int64_t step) { return batches.step(step); };
  source.num_eval_batches = batches.num_eval_batches();
  source.eval = [&](std::int64_t idx) { return batches.eval_batch(idx); };
  RunResult result;
  result.summary = trainer.run(source, inner);
  result.adapter = output.finish(result.summary, selection, base);
  return result;
}

}  // namespace bezel::train
