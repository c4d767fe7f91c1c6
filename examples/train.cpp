// train MODEL DATA.jsonl OUTPUT: fine-tunes the language model with LoRA and writes a PEFT adapter.
#include <cstdio>
#include <filesystem>

#include "bezel/error.h"
#include "bezel/train/run.h"

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "train MODEL DATA.jsonl OUTPUT\n");
    return 2;
  }
  try {
    bezel::train::TrainConfig config;  // every key of `bezel train`, with its default
    config.base_model = argv[1];
    config.train_file = argv[2];
    config.output_dir = argv[3];
    config.lora.rank = 8;
    config.lora.alpha = 16;
    config.max_steps = 3;
    bezel::train::RunEvents events;
    events.on_step = [](const bezel::train::StepReport& report) {
      std::printf("step %lld: loss %.4f\n", static_cast<long long>(report.step), report.loss);
    };
    std::printf("%s\n", bezel::train::run_training(config, events).adapter.c_str());
  } catch (const bezel::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return static_cast<int>(error.kind());
  }
}
