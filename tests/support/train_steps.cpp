// train_steps [--loraplus RATIO EMBEDDING_LR] MODEL ADAPTER OUT STEPS LR WEIGHT_DECAY CASE…
// Trains the adapter of folder ADAPTER for some AdamW steps on tensors as processors give them, one CASE a step in
// turns, in float32 with gradients clipped at 1. Prints the loss of each step and writes the adapter to folder OUT.
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "bezel/error.h"
#include "bezel/gemma4/load.h"
#include "bezel/lora/adapter_io.h"
#include "bezel/train/objective.h"
#include "bezel/train/trainer.h"

namespace {

using namespace bezel;  // a test program's main file

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
  const lora::LoadedAdapter adapter = lora::load_adapter(*model, adapter_folder, model->config().text_only);
  std::vector<data::Batch> cases;
  for (std::size_t i = 6; i < arguments.size(); ++i)
    cases.push_back(model->make_batch(data::read_raw_inputs(arguments[i])));

  train::TrainerOptions options;
  options.total_steps = steps;
  options.adam.weight_decay = std::stod(arguments[5]);
  options.learning_rate = [rate = std::stod(arguments[4])](std::int64_t) { return rate; };
  loraplus.learning_rate = std::stod(arguments[4]);
  options.loraplus = loraplus;
  train::SupervisedObjective objective(model, torch::kCPU);
  train::Trainer trainer(*model, adapter.selection, objective, options);
  for (std::int64_t step = 0; step < steps; ++step) {
    const data::Batch& batch = cases[static_cast<std::size_t>(step) % cases.size()];
    const train::StepResult result = trainer.step(step, {&batch, 1});
    std::printf("%.9g %.9g\n", result.loss, result.grad_norm);
  }
  std::filesystem::create_directories(out);
  lora::save_adapter(out, adapter.selection, adapter.config, {.path = model_folder});
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 8) {
    std::fprintf(stderr, "train_steps MODEL ADAPTER OUT STEPS LR WEIGHT_DECAY CASE...\n");
    return 2;
  }
  try {
    run({argv + 1, argv + argc});
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return static_cast<int>(error.kind());
  }
  return 0;
}
