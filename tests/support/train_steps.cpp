// train_steps [--loraplus RATIO EMBEDDING_LR] MODEL ADAPTER OUT STEPS LR WEIGHT_DECAY [config=YAML] CASE…
// Trains the adapter of folder ADAPTER for some steps on tensors as processors give them, one CASE a step in turns, in
// float32 with gradients clipped at 1. The keys of a training config that YAML holds choose optimizer and loss, and
// seed the noise. Prints the loss of each step and writes the adapter to folder OUT, and gradients.safetensors: those
// of the first step, before clipping.
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "bezel/gemma4/load.h"
#include "bezel/io/tensor_io.h"
#include "bezel/lora/adapter_io.h"
#include "bezel/nn/random_keys.h"
#include "bezel/train/objective.h"
#include "bezel/train/run_check.h"
#include "bezel/train/trainer.h"
#include "support/test_program.h"

namespace {

using namespace bezel;  // a test program's main file

// Of one batch; the noise is that of the first step.
void save_gradients(train::Objective& objective, const data::Batch& batch, const lora::Selection& selection,
                    const std::string& path) {
  (objective.loss_sum(batch) / static_cast<double>(objective.weight(batch))).backward();
  std::vector<std::pair<std::string, torch::Tensor>> gradients;
  for (auto& [name, tensor] : selection.named_tensors())
    if (tensor.grad().defined()) {
      gradients.emplace_back(name, tensor.grad().clone());
      tensor.mutable_grad().reset();
    }
  io::save_safetensors(path, gradients);
}

// "-": a fresh one, by the config.
lora::LoadedAdapter adapter_of(gemma4::Model& model, const std::string& folder, const lora::LoraConfig& config) {
  const bool text_only = model->config().text_only;
  if (folder != "-") return lora::load_adapter(*model, folder, text_only);
  lora::LoadedAdapter adapter;
  adapter.config = config;
  adapter.selection = lora::select_targets(*model, config, {.text_only = text_only});
  lora::attach(adapter.selection, config);
  return adapter;
}

void run(std::vector<std::string> arguments) {
  train::LoraPlus loraplus;
  if (arguments[0] == "--loraplus") {
    loraplus.ratio = std::stod(arguments[1]);
    loraplus.embedding_rate = std::stod(arguments[2]);
    arguments.erase(arguments.begin(), arguments.begin() + 3);
  }
  const std::string &model_folder = arguments[0], &adapter_folder = arguments[1], &out = arguments[2];
  const std::int64_t steps = std::stoll(arguments[3]);
  gemma4::Model model = gemma4::load_model(model_folder, {torch::kFloat, torch::kCPU}).model;
  std::string yaml;
  if (arguments.at(6).starts_with("config=")) {
    yaml = arguments[6].substr(7);
    arguments.erase(arguments.begin() + 6);
  }
  train::TrainConfig config = train::parse_train_config(yaml, "config", {}, /*require_paths=*/false);
  config.learning_rate = std::stod(arguments[4]);
  config.weight_decay = std::stod(arguments[5]);
  const lora::LoadedAdapter adapter = adapter_of(model, adapter_folder, config.lora);
  std::vector<data::Batch> cases;
  for (std::size_t i = 6; i < arguments.size(); ++i)
    cases.push_back(model->make_batch(data::read_raw_inputs(arguments[i])));

  train::TrainerOptions options;
  options.total_steps = steps;
  loraplus.learning_rate = config.learning_rate;
  options.optimizer = train::make_optimizer_settings(config);
  options.optimizer.loraplus = loraplus;
  options.learning_rate = [&](std::int64_t) { return config.learning_rate; };
  train::SupervisedObjective objective(model, torch::kCPU, {},
                                       {config.label_smoothing_factor, config.neftune_noise_alpha});
  model->train();
  std::filesystem::create_directories(out);
  options.seed = static_cast<std::uint64_t>(config.seed);
  {
    const nn::ScopedRandomKeys random(nn::RandomKeys::of_step(options.seed, /*update=*/0));
    save_gradients(objective, cases.front(), adapter.selection, out + "/gradients.safetensors");
  }
  train::Trainer trainer(*model, adapter.selection, objective, options);
  for (std::int64_t step = 0; step < steps; ++step) {
    const data::Batch& batch = cases[static_cast<std::size_t>(step) % cases.size()];
    const train::StepResult result = trainer.step(step, {&batch, 1});
    std::printf("%.9g %.9g\n", result.loss, result.grad_norm);
  }
  lora::save_adapter(out, adapter.selection, adapter.config, {.path = model_folder});
}

}  // namespace

int main(int argc, char** argv) {
  return test::run_program(argc, argv, argc >= 8,
                           "train_steps MODEL ADAPTER|- OUT STEPS LR WEIGHT_DECAY [config=YAML] CASE...", run);
}
