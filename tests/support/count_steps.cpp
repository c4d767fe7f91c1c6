// count_steps MODEL ADAPTER DTYPE STORAGE CASE
// Trains the adapter of folder ADAPTER for three updates on the simulated device, on tensors as processors give them,
// and prints as JSON what the last of them asked of the device, with the bytes that it kept for its backward pass.
#include <cstdio>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "bezel/gemma4/load.h"
#include "bezel/lora/adapter_io.h"
#include "bezel/train/objective.h"
#include "bezel/train/trainer.h"
#include "support/simulated_device.h"
#include "support/simulated_memory.h"
#include "support/test_program.h"

namespace {

using namespace bezel;  // a test program's main file

constexpr std::int64_t kUpdates = 3;

void run(const std::vector<std::string>& arguments) {
  const auto dtype = arguments[2] == "float32" ? torch::kFloat : torch::kBFloat16;
  gemma4::Model model =
      gemma4::load_model(arguments[0], {dtype, simulated::kDevice, {.storage = quant::parse_storage(arguments[3])}})
          .model;
  const lora::LoadedAdapter adapter = lora::load_adapter(*model, arguments[1], model->config().text_only);
  const data::Batch batch = model->make_batch(data::read_raw_inputs(arguments[4]));
  std::int64_t before = 0, kept = 0;
  train::SupervisedObjective objective(model, simulated::kDevice, [&](gemma4::Phase) {
    kept = simulated::memory_use().bytes - before;  // the last phase is the head
  });
  train::TrainerOptions options;
  options.total_steps = kUpdates;
  options.learning_rate = [](std::int64_t) { return 1e-4; };
  train::Trainer trainer(*model, adapter.selection, objective, options);
  model->train();
  double loss = 0;
  for (std::int64_t step = 0; step < kUpdates; ++step) {
    before = simulated::memory_use().bytes;
    simulated::reset_counts();
    loss = trainer.step(step, {&batch, 1}).loss;
  }
  nlohmann::json told = nlohmann::json::parse(bezel_simulated_counts());
  told["kept_bytes"] = kept;
  told["loss"] = loss;
  std::printf("%s\n", told.dump().c_str());
}

}  // namespace

int main(int argc, char** argv) {
  return test::run_program(argc, argv, argc == 6, "count_steps MODEL ADAPTER DTYPE STORAGE CASE", run);
}
