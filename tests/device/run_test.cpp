// Whole runs on the simulated device, from the config to the adapter, and what else reads a model: evaluation, answers.
#include "bezel/train/run.h"

#include <fstream>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "bezel/gemma4/load.h"
#include "bezel/generate/generator.h"
#include "bezel/io/tensor_io.h"
#include "bezel/train/evaluate.h"
#include "support/simulated_device.h"
#include "support/temp_folder.h"
#include "support/tiny_model.h"

namespace bezel::train {
namespace {

using simulated::kDevice;
using torch::Tensor;
using Tensors = std::vector<std::pair<std::string, Tensor>>;

// Six answers of growing length, packed where a run packs.
void write_samples(const std::string& path) {
  std::ofstream file(path);
  for (int i = 0; i < 6; ++i) {
    file << R"({"messages": [{"role": "user", "content": "Number )" << i
         << R"(?"}, {"role": "assistant", "content": ")";
    for (int word = 0; word < 2 + 2 * i; ++word) file << (word % 2 ? " tea" : " cup");
    file << "\"}]}\n";
  }
}

struct RunCase {
  const char* name;
  const char* keys;          // of the config, beside those that every run has
  double difference = 3e-2;  // of the adapter, relative: AdamW's first steps have the sign of a gradient, which may be
                             // a rounding error
};

const RunCase kRuns[] = {
    {"plain", ""},
    {"bfloat16", "dtype: bfloat16\n", 3e-1},  // the CPU's fused loops round elsewhere
    {"packed", "packing: true\nmax_seq_length: 96\n"},
    {"nf4", "storage: nf4\n"},
    {"int8", "storage: int8\nquantize_embeddings: int8\n"},
    {"dora", "use_dora: true\n"},
    {"tables", "target_modules: [q_proj, embed_tokens]\n"},
    {"recomputed", "gradient_checkpointing: true\n"},
    {"embeddings_on_host", "embeddings_on: host\n"},
    {"lion", "optim: lion\nlearning_rate: 0.0001\n"},
};

class RunOnDevice : public testing::TestWithParam<RunCase> {
 protected:
  RunOnDevice() { write_samples(folder_ / "train.jsonl"); }

  TrainConfig config(const std::string& device, const std::string& out, const std::string& more = "") {
    std::string yaml = "base_model: " BEZEL_DEMO_MODEL "\ntrain_file: " + (folder_ / "train.jsonl") +
                       "\noutput_dir: " + (folder_ / out) + "\ndevice: " + device + "\nlora_r: 4\n";
    const auto unless_given = [&](const std::string& key, const std::string& value) {
      if (more.find(key) == std::string::npos) yaml += key + ": " + value + "\n";
    };
    unless_given("dtype", "float32");
    unless_given("learning_rate", "0.01");
    unless_given("max_steps", "3");
    unless_given("save_steps", "3");
    unless_given("target_modules", "[q_proj, v_proj, down_proj]");
    unless_given("gradient_checkpointing", "false");
    yaml +=
        "micro_batch_size: 2\ngradient_accumulation_steps: 2\nval_set_size: 2\neval_steps: 2\nsample_predictions: 1\n";
    return parse_train_config(yaml + more, "config.yaml");
  }

  Tensors adapter(const std::string& out) {
    Tensors tensors;
    for (const auto& [name, tensor] : io::load_safetensors(folder_ / out + "/adapter_model.safetensors"))
      tensors.emplace_back(name, tensor);
    return tensors;
  }

  test::TempFolder folder_;
};

double difference(const Tensors& got, const Tensors& wanted) {
  double far = 0, all = 0;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    EXPECT_EQ(got[i].first, wanted[i].first);
    far += (got[i].second - wanted[i].second).square().sum().item<double>();
    all += wanted[i].second.square().sum().item<double>();
  }
  return std::sqrt(far / all);
}

TEST_P(RunOnDevice, TrainsTheAdapterThatTheCpuTrains) {
  const RunResult cpu = run_training(config("cpu", "cpu", GetParam().keys), {});
  const RunResult ours = run_training(config("privateuseone", "ours", GetParam().keys), {});
  EXPECT_NEAR(ours.summary.first_loss, cpu.summary.first_loss, 1e-4 + GetParam().difference / 10);
  EXPECT_NEAR(ours.summary.last_loss, cpu.summary.last_loss, GetParam().difference);
  EXPECT_EQ(ours.problems, std::vector<std::string>{});
  const Tensors got = adapter("ours"), wanted = adapter("cpu");
  ASSERT_EQ(got.size(), wanted.size());
  EXPECT_LT(difference(got, wanted), GetParam().difference);
}

INSTANTIATE_TEST_SUITE_P(All, RunOnDevice, testing::ValuesIn(kRuns),
                         [](const auto& info) { return std::string(info.param.name); });

class StoppedOnDevice : public RunOnDevice {};

// Random numbers of the device are among what a checkpoint remembers.
TEST_P(StoppedOnDevice, GoesOnToTheSameBytes) {
  const std::string keys = "lora_dropout: 0.2\nmax_steps: 4\nsave_steps: 2\n";
  run_training(config("privateuseone", "whole", keys), {});
  int steps = 0;
  RunEvents events;
  events.on_step = [&](const StepReport&) { ++steps; };
  events.should_stop = [&] { return steps == 2; };
  EXPECT_TRUE(run_training(config("privateuseone", "stopped", keys), events).summary.stopped);
  run_training(config("privateuseone", "stopped", keys + "resume_from_checkpoint: auto\n"), {});
  EXPECT_EQ(difference(adapter("stopped"), adapter("whole")), 0.0);
}

INSTANTIATE_TEST_SUITE_P(All, StoppedOnDevice, testing::Values(RunCase{"dropout", ""}),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(GeneratorOnDevice, WritesWhatTheCpuWrites) {
  const test::TempFolder folder;
  test::write_tiny_checkpoint(folder.path().string());
  const input::Batch prompt = test::tiny_batch();
  const auto logits = [&](torch::Device device, bool host_table) {
    generate::Generator generator(
        gemma4::load_model(folder.path().string(), {torch::kFloat, device, {}, host_table}).model,
        /*chunk_tokens=*/5);
    std::vector<Tensor> all{generator.prefill(prompt)};
    for (const std::int64_t token : {5, 9, 60, 11, 12, 13, 14, 15}) all.push_back(generator.decode(token));
    return at::stack(all);
  };
  const Tensor wanted = logits(torch::kCPU, false);
  for (const bool host_table : {false, true})
    EXPECT_LT((logits(kDevice, host_table) - wanted).abs().max().item<double>(), 2e-4);
}

}  // namespace
}  // namespace bezel::train
