#include "bezel/train/checkpoint.h"

#include <functional>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "bezel/io/tensor_io.h"
#include "bezel/train/random_state.h"
#include "bezel/train/trainer.h"
#include "lora/tiny_linears.h"
#include "tests/support/temp_folder.h"

namespace bezel::train {
namespace {

using test::error_of;
using test::says;
using test::TempFolder;
using torch::Tensor;

constexpr std::int64_t kSteps = 8;
const std::vector<std::string> kLayers = {"model.language_model.layers.0.self_attn.q_proj",
                                          "model.vision_tower.encoder.layers.0.self_attn.q_proj"};

/// Two adapted layers with dropout, of which that of the vision tower sees data every third step only, and a learning
/// rate, clipping and reports that depend on the step: whatever is not restored shows in the numbers.
class TinyRun : public Objective {
 public:
  TinyRun() {
    torch::manual_seed(3);
    model = std::make_unique<test::TinyLinears>(kLayers);
    config = {.rank = 2, .alpha = 4, .dropout = 0.3, .target_modules = lora::ModulePattern::from_names({"q_proj"})};
    config.towers = {lora::Tower::kLanguage, lora::Tower::kVision};
    selection = lora::select_targets(*model, config);
    lora::attach(selection, config);
    TrainerOptions options;
    options.total_steps = kSteps;
    options.steps_per_epoch = 3;
    options.max_grad_norm = 0.5;
    // Uphill in the end, so that the best evaluation is one before the checkpoint.
    options.learning_rate = [](std::int64_t step) { return (step < 4 ? 0.05 : -0.05) / static_cast<double>(step + 1); };
    options.logging_steps = 3;
    options.eval_steps = 2;
    options.save_steps = 4;
    trainer = std::make_unique<Trainer>(*model, selection, *this, options);
  }

  std::int64_t weight(const data::Batch& batch) const override { return batch.num_labels(); }

  Tensor loss_sum(const data::Batch& batch) override {
    const Tensor x = at::arange(18, torch::kFloat).view({3, 6}).mul(0.1) + batch.label_ids.to(torch::kFloat).sum();
    Tensor y = model->layer(kLayers[0])(x);
    if (batch.num_tokens % 3 == 0) y = y + model->layer(kLayers[1])(x);
    return y.square().sum();
  }

  /// Goes on to the last step; `on_save` is called at step 4.
  TrainSummary run(const std::function<void(const TrainerState&)>& on_save = {}) {
    BatchSource source;
    source.train = [](std::int64_t step) { return std::vector<data::Batch>{batch_of(step + 1)}; };
    source.num_eval_batches = 1;
    source.eval = [](std::int64_t) { return batch_of(1); };
    TrainerEvents events;
    events.on_step = [this](const StepReport& report) {
      log.push_back({report.loss, report.grad_norm, report.learning_rate, static_cast<double>(report.step)});
    };
    events.on_eval = [this](const EvalReport& report) { log.push_back({report.loss}); };
    events.on_save = [&](const TrainerState& state) {
      if (on_save && state.steps_done == 4) on_save(state);
    };
    return trainer->run(source, events);
  }

  void save(const std::string& path, const TrainerState& state) {
    const TrainingState all{
        .run_id = "r", .recompute = false, .facts = {}, .trainer = state, .random = random_states(torch::kCPU)};
    save_checkpoint(path, {selection, config, {.path = "base"}, trainer->optimizer(), all, "{}", ""});
  }

  void restore(const std::string& path) {
    restore_tensors(path, selection, trainer->optimizer());
    const TrainingState all = read_training_state(path);
    trainer->restore(all.trainer);
    restore_random_states(io::JsonView(all.random, "random"), torch::kCPU);
  }

  std::vector<Tensor> tensors() const { return selection.tensors(); }

  std::unique_ptr<test::TinyLinears> model;
  lora::LoraConfig config;
  lora::Selection selection;
  std::unique_ptr<Trainer> trainer;
  std::vector<std::vector<double>> log;

 private:
  static data::Batch batch_of(std::int64_t count) {
    data::Batch batch;
    batch.label_ids = at::ones({count}, torch::kLong);
    batch.label_flat_index = at::arange(count);
    batch.num_tokens = count;
    return batch;
  }
};

/// A run that was never stopped, and the checkpoint that it wrote at step 4.
class ExactResume : public testing::Test {
 protected:
  ExactResume() {
    summary = whole.run([&](const TrainerState& state) {
      whole.save(path(), state);
      logged_before = whole.log.size();
    });
  }

  std::string path() const { return folder / "checkpoint-4"; }

  /// What differs from the run that was never stopped, after a resume from the checkpoint as it is now.
  std::string difference() {
    TinyRun resumed;
    resumed.restore(path());
    const TrainSummary after = resumed.run();
    for (std::size_t i = 0; i < whole.tensors().size(); ++i)
      if (!torch::equal(whole.tensors()[i], resumed.tensors()[i])) return "tensor";
    const std::vector<std::vector<double>> expected(whole.log.begin() + static_cast<std::ptrdiff_t>(logged_before),
                                                    whole.log.end());
    if (resumed.log != expected) return "log";
    const auto numbers = [](const TrainSummary& s) {
      return std::vector<double>{s.mean_loss,     s.first_loss,         s.last_loss,
                                 double(s.steps), double(s.num_tokens), double(s.skipped_steps)};
    };
    if (numbers(after) != numbers(summary)) return "summary";
    const TrainerState &a = whole.trainer->state(), &b = resumed.trainer->state();
    if (a.best->value != b.best->value || a.best->step != b.best->step) return "best";
    if (a.evals_without_gain != b.evals_without_gain) return "patience";
    return a.audited == b.audited ? "" : "audit";
  }

  /// Puts a file's bytes back.
  class Keep {
   public:
    explicit Keep(std::string file) : file_(std::move(file)), good_(test::read_bytes(file_)) {}
    Keep(const Keep&) = delete;
    Keep& operator=(const Keep&) = delete;
    ~Keep() { test::write_bytes(file_, good_); }

   private:
    std::string file_, good_;
  };

  /// Edits training_state.json.
  std::string difference_with(const std::function<void(io::Json&)>& edit) {
    const std::string file = path() + "/training_state.json";
    const Keep keep(file);
    io::Json json = io::read_json_file(file);
    edit(json);
    test::write_bytes(file, json.dump());
    return difference();
  }

  /// Puts what a fresh run has into the tensors of a file whose names begin with `prefix`.
  std::string difference_without(const std::string& file, const std::string& prefix, const std::string& part = "") {
    const std::string name = path() + "/" + file;
    const Keep keep(name);
    std::vector<std::pair<std::string, Tensor>> tensors;
    for (const auto& [key, value] : io::load_safetensors(name)) {
      const bool dropped = key.starts_with(prefix) && key.find(part) != std::string::npos;
      tensors.emplace_back(key, dropped ? at::zeros_like(value) : value.clone());
    }
    io::save_safetensors(name, tensors);
    return difference();
  }

  TempFolder folder;
  TinyRun whole;
  TrainSummary summary;
  std::size_t logged_before = 0;
};

TEST_F(ExactResume, NothingDiffersFromARunThatWasNotStopped) { EXPECT_EQ(difference(), ""); }

// The control: each part of the state counts, and leaving it out shows.
TEST_F(ExactResume, EveryPartThatIsLeftOutShows) {
  EXPECT_EQ(difference_without("adapter_model.safetensors", "", "lora_A"), "tensor");
  EXPECT_EQ(difference_without("adapter_model.safetensors", "", "lora_B"), "tensor");
  EXPECT_EQ(difference_without("optimizer.safetensors", "exp_avg."), "tensor");
  EXPECT_EQ(difference_without("optimizer.safetensors", "exp_avg_sq."), "tensor");
  EXPECT_EQ(difference_without("optimizer.safetensors", "step."), "tensor");
  const TinyRun fresh;
  const TrainerState zero;
  const io::Json none = to_json(zero), random = random_states(torch::kCPU);
  EXPECT_EQ(difference_with([&](io::Json& json) { json["random"] = random; }), "") << "no step draws from torch's";
  const auto drop = [&](const char* key) {
    return difference_with([&](io::Json& json) { json["trainer"][key] = none[key]; });
  };
  EXPECT_EQ(drop("steps_done"), "tensor");
  EXPECT_EQ(drop("window"), "log");
  for (const char* key : {"loss_sum", "first_loss", "num_tokens"}) EXPECT_EQ(drop(key), "summary") << key;
  EXPECT_EQ(drop("best"), "best");
  EXPECT_EQ(difference(), "") << "the edits above were taken back";
}

TEST_F(ExactResume, AMissingPartIsRefused) {
  for (const char* key : {"format", "run_id", "recompute", "facts", "trainer", "random"})
    EXPECT_TRUE(says(error_of([&] { difference_with([&](io::Json& json) { json.erase(key); }); }), key)) << key;
  EXPECT_TRUE(says(error_of([&] { difference_with([](io::Json& json) { json["format"] = 2; }); }), "another version"));
  for (const char* file : {"adapter_model.safetensors", "optimizer.safetensors", "training_state.json"}) {
    const Keep keep(path() + "/" + file);
    std::filesystem::remove(path() + "/" + file);
    EXPECT_TRUE(says(error_of([&] { difference(); }), file));
  }
}

TEST_F(ExactResume, TensorsThatDoNotFitAreRefusedByName) {
  const std::string name = path() + "/optimizer.safetensors";
  const auto with = [&](const std::function<void(std::map<std::string, Tensor>&)>& edit) {
    const Keep keep(name);
    auto tensors = io::load_safetensors(name);
    edit(tensors);
    std::vector<std::pair<std::string, Tensor>> list;
    for (const auto& [key, value] : tensors) list.emplace_back(key, value.clone());
    io::save_safetensors(name, list);
    return error_of([&] { difference(); });
  };
  const std::string key = "exp_avg.base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_A.weight";
  EXPECT_TRUE(says(with([&](auto& tensors) { tensors.erase(key); }), "tensor '" + key + "' is missing"));
  EXPECT_TRUE(says(with([&](auto& tensors) { tensors["exp_avg.of_nothing"] = at::zeros({1}); }),
                   "tensor 'exp_avg.of_nothing' fits nothing"));
  EXPECT_TRUE(says(with([&](auto& tensors) { tensors[key] = at::zeros({3, 6}); }), "this run has Float [2, 6]"));
  EXPECT_TRUE(says(with([&](auto& tensors) { tensors[key] = tensors[key].to(torch::kHalf); }), "is Half"));
}

TEST_F(ExactResume, OtherRandomStatesAreRefused) {
  const auto with = [&](const std::string& state) {
    return error_of([&] { difference_with([&](io::Json& json) { json["random"]["cpu"] = state; }); });
  };
  EXPECT_TRUE(says(with("00"), "as this LibTorch has them"));
  EXPECT_TRUE(says(with("xy"), "not hexadecimal"));
}

// A moment of an adapter that took no part yet is no moment: a resumed run must not begin to decay it.
TEST(TrainerCheckpoint, TensorsWithoutAnUpdateHaveNoMoments) {
  const TempFolder folder;
  TinyRun run;
  run.trainer->optimizer();
  run.save(folder / "checkpoint-0", run.trainer->state());
  EXPECT_TRUE(io::load_safetensors(folder / "checkpoint-0/optimizer.safetensors").empty());
  TinyRun again;
  again.restore(folder / "checkpoint-0");
  EXPECT_TRUE(again.trainer->optimizer().state().empty());
}

// An adapter that was seen to train once need not have a gradient in the first step after a resume.
TEST(TrainerCheckpoint, WhatWasAuditedIsNotAuditedAgain) {
  TinyRun run;
  const TrainerState before = run.trainer->state();
  ASSERT_TRUE(before.audited.has_value());
  EXPECT_TRUE(before.audited->empty());
  run.run();
  const TrainerState after = run.trainer->state();
  EXPECT_FALSE(after.audited.has_value()) << "everything trains";
  lora::GradientAudit audit(run.selection);
  const std::vector<std::string> seen = {kLayers[0] + ".lora_A", kLayers[0] + ".lora_B"};
  audit.restore(seen);
  EXPECT_EQ(audit.seen(), seen);
  for (const Tensor& tensor : run.tensors()) tensor.mutable_grad() = at::zeros_like(tensor);
  const std::string message = error_of([&] { audit.check(5); });
  EXPECT_TRUE(says(message, kLayers[1] + ".lora_B"));
  EXPECT_FALSE(says(message, kLayers[0]));
}

}  // namespace
}  // namespace bezel::train
