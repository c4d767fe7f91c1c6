#include "bezel/train/trainer.h"

#include <cmath>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "bezel/error.h"
#include "lora/tiny_linears.h"

namespace bezel::train {
namespace {

const std::string kQ = "model.language_model.layers.0.self_attn.q_proj";

/// A batch whose "labels" are just `count` numbers near `value`.
data::Batch batch_of(std::int64_t count, std::int64_t value) {
  data::Batch batch;
  batch.label_ids = torch::full({count}, value, torch::kLong);
  batch.label_flat_index = torch::arange(count);
  batch.num_tokens = count;
  return batch;
}

/// One adapted layer that learns to answer with the label's value.
class TinyRun : public Objective {
 public:
  TinyRun() {
    config = {.rank = 2, .alpha = 4, .target_modules = lora::ModulePattern::from_names({"q_proj"})};
    selection = lora::select_targets(model, config);
    lora::attach(selection, config);
    options.total_steps = 4;
    options.steps_per_epoch = 2;
    options.learning_rate = [](std::int64_t) { return 0.05; };
  }

  Trainer trainer() { return Trainer(model, selection, *this, options); }

  std::int64_t weight(const data::Batch& batch) const override { return batch.num_labels(); }

  torch::Tensor loss_sum(const data::Batch& batch) override {
    ++calls;
    saw_training = model.is_training();
    const torch::Tensor wanted = batch.label_ids.to(torch::kFloat);  // [L]
    const torch::Tensor x = torch::stack({wanted, wanted + 1, wanted * 0.5, wanted - 2, wanted * 2, -wanted}, 1);
    const torch::Tensor error = (model.layer(kQ)(x).sum(1) - wanted).square().sum();
    return poison ? error * NAN : error;
  }

  std::vector<torch::Tensor> values() const {
    std::vector<torch::Tensor> all;
    for (const torch::Tensor& tensor : selection.tensors()) all.push_back(tensor.detach().clone());
    return all;
  }

  // Seeded before the weights are drawn, so that two runs start alike.
  test::TinyLinears model{(torch::manual_seed(3), std::vector<std::string>{kQ})};
  lora::LoraConfig config;
  lora::Selection selection;
  TrainerOptions options;
  int calls = 0;
  bool poison = false;
  bool saw_training = false;
};

TEST(Trainer, AccumulationWeighsTokensNotMicroBatches) {
  TinyRun whole, split;
  const std::vector<data::Batch> parts = {batch_of(1, 3), batch_of(5, 1)};
  data::Batch both = batch_of(6, 1);
  both.label_ids[0] = 3;
  Trainer one = whole.trainer(), two = split.trainer();
  for (int step = 0; step < 3; ++step) {
    const StepResult a = one.step(step, {{both}});
    const StepResult b = two.step(step, parts);
    EXPECT_NEAR(a.loss, b.loss, 1e-5 * std::abs(a.loss));
    EXPECT_EQ(b.num_labels, 6);
  }
  for (std::size_t i = 0; i < whole.values().size(); ++i)
    EXPECT_TRUE(torch::allclose(whole.values()[i], split.values()[i], 1e-4, 1e-5));
}

TEST(Trainer, LossFallsAndReportsCome) {
  TinyRun run;
  run.options.total_steps = 60;
  run.options.logging_steps = 20;
  run.options.eval_steps = 30;
  run.options.save_steps = 25;
  run.options.save_best = true;
  BatchSource source;
  source.train = [](std::int64_t) { return std::vector<data::Batch>{batch_of(2, 1), batch_of(3, 2)}; };
  source.num_eval_batches = 2;
  source.eval = [](std::int64_t i) { return batch_of(1 + i, 1 + i); };
  std::vector<std::int64_t> logged, evaluated, saved;
  std::vector<double> losses;
  const TrainSummary summary =
      run.trainer().run(source, {.on_step =
                                     [&](const StepReport& report) {
                                       logged.push_back(report.step);
                                       losses.push_back(report.loss);
                                       EXPECT_EQ(report.total_steps, 60);
                                       EXPECT_DOUBLE_EQ(report.epoch, static_cast<double>(report.step) / 2);
                                       EXPECT_GT(report.peak_memory_bytes, 0);
                                     },
                                 .on_eval = [&](const EvalReport& report) { evaluated.push_back(report.step); },
                                 .on_save = [&](const TrainerState& state) { saved.push_back(state.steps_done); }});
  EXPECT_EQ(logged, (std::vector<std::int64_t>{20, 40, 60}));
  EXPECT_EQ(evaluated, (std::vector<std::int64_t>{30, 60}));
  EXPECT_EQ(saved, (std::vector<std::int64_t>{25, 30, 50, 60})) << "30: better than any evaluation before";
  EXPECT_LT(losses[2], losses[0]);
  EXPECT_LT(summary.last_loss, summary.first_loss);
  EXPECT_EQ(summary.num_tokens, 60 * 5);
}

TEST(Trainer, EvaluationIsTheMeanOverLabelsInEvaluationMode) {
  TinyRun run;
  Trainer trainer = run.trainer();
  BatchSource source;
  source.num_eval_batches = 2;
  source.eval = [](std::int64_t i) { return batch_of(1 + 3 * i, 1 + i); };
  const EvalReport report = trainer.evaluate(source);
  EXPECT_FALSE(run.saw_training);
  EXPECT_TRUE(run.model.is_training());
  const double expected =
      (run.loss_sum(batch_of(1, 1)).item<double>() + run.loss_sum(batch_of(4, 2)).item<double>()) / 5;
  EXPECT_EQ(report.num_labels, 5);
  EXPECT_NEAR(report.loss, expected, 1e-6 * expected);
}

TEST(Trainer, BadStepsChangeNothingAndStopTheRunInTheEnd) {
  TinyRun run;
  run.options.max_bad_steps = 3;
  Trainer trainer = run.trainer();
  const std::vector<data::Batch> batches = {batch_of(2, 1)};
  run.poison = true;
  const auto before = run.values();
  EXPECT_TRUE(trainer.step(0, batches).skipped);
  EXPECT_TRUE(trainer.step(1, batches).skipped);
  for (std::size_t i = 0; i < before.size(); ++i) EXPECT_TRUE(torch::equal(before[i], run.values()[i]));
  run.poison = false;
  EXPECT_FALSE(trainer.step(2, batches).skipped);
  run.poison = true;
  trainer.step(3, batches);
  trainer.step(4, batches);
  try {
    trainer.step(5, batches);
    FAIL() << "three bad steps in a row went on";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kDiverged);
  }
}

TEST(Trainer, InputsThatCannotBeTrustedStopItBeforeTheUpdate) {
  TinyRun run;
  run.options.check_inputs = [] { throw Error(ErrorKind::kIo, "the file is gone"); };
  const auto before = run.values();
  Trainer trainer = run.trainer();
  EXPECT_THROW(trainer.step(0, std::vector<data::Batch>{batch_of(2, 1)}), Error);
  EXPECT_EQ(trainer.state().steps_done, 0);
  for (std::size_t i = 0; i < before.size(); ++i) EXPECT_TRUE(torch::equal(before[i], run.values()[i]));
}

TEST(Trainer, SavesWhenStoppedThoughNoneIsDue) {
  TinyRun run;
  BatchSource source;
  source.train = [](std::int64_t) { return std::vector<data::Batch>{batch_of(2, 1)}; };
  std::int64_t saved = 0;
  const auto on_save = [&](const TrainerState& state) { saved = state.steps_done; };
  run.trainer().run(source, {.on_save = on_save});
  EXPECT_EQ(saved, 0) << "save_steps is 0";
  run.trainer().run(source, {.on_save = on_save, .should_stop = [] { return true; }});
  EXPECT_EQ(saved, 1);
}

/// Evaluations of a run that stops early, once whole and once from the state that was saved after `from` steps.
struct EarlyRun {
  explicit EarlyRun(TinyRun& run) {
    run.options.total_steps = 30;
    run.options.eval_steps = 2;
    run.options.save_steps = 3;
    run.options.stopping = {.patience = 2};
    // Down, then uphill for good.
    run.options.learning_rate = [](std::int64_t step) { return step < 6 ? 0.02 : -0.02; };
    source.train = [](std::int64_t) { return std::vector<data::Batch>{batch_of(2, 1)}; };
    source.num_eval_batches = 1;
    source.eval = [](std::int64_t) { return batch_of(1, 2); };
    events.on_eval = [this](const EvalReport& report) { evaluated.push_back(report.step); };
    events.on_save = [this](const TrainerState& state) { saved.push_back(state); };
  }

  BatchSource source;
  TrainerEvents events;
  std::vector<std::int64_t> evaluated;
  std::vector<TrainerState> saved;
};

TEST(Trainer, StopsEarlyAfterEvaluationsWithoutGain) {
  TinyRun run;
  EarlyRun early(run);
  Trainer trainer = run.trainer();
  const TrainSummary summary = trainer.run(early.source, early.events);
  EXPECT_TRUE(summary.stopped_early);
  EXPECT_FALSE(summary.stopped);
  const std::int64_t best = trainer.state().best->step;
  EXPECT_EQ(summary.steps, best + 4) << "two evaluations";
  EXPECT_EQ(early.saved.back().steps_done, summary.steps) << "the last step is saved though none is due";
  EXPECT_EQ(early.evaluated.back(), summary.steps);

  // What has come to its end goes on to the same end, and what was saved before to the same decision.
  for (const TrainerState& state : {early.saved.back(), early.saved[1]}) {
    TinyRun again;
    EarlyRun rest(again);
    Trainer resumed = again.trainer();
    resumed.restore(state);
    const TrainSummary after = resumed.run(rest.source, rest.events);
    EXPECT_EQ(after.stopped_early, true);
    if (state.steps_done == summary.steps) {
      EXPECT_EQ(after.steps, summary.steps);
    }
  }
}

TEST(Trainer, WhatEvaluationsMeasureDecides) {
  TinyRun run;
  EarlyRun early(run);
  run.options.stopping = {.metric = BestMetric::kExactMatch, .patience = 3};
  run.options.first_eval = 4;
  early.source.exact_match = [call = 0]() mutable { return std::vector<double>{0.2, 0.5, 0.1, 0.5, 0.5, 0.6}[call++]; };
  Trainer trainer = run.trainer();
  const TrainSummary summary = trainer.run(early.source, early.events);
  EXPECT_EQ(early.evaluated, (std::vector<std::int64_t>{4, 6, 8, 10, 12}));
  EXPECT_TRUE(summary.stopped_early);
  EXPECT_EQ(trainer.state().best->step, 6);
  EXPECT_EQ(trainer.state().best->value, 0.5);
}

TEST(Trainer, StopsWhenToldTo) {
  TinyRun run;
  BatchSource source;
  source.train = [](std::int64_t) { return std::vector<data::Batch>{batch_of(2, 1)}; };
  const TrainSummary summary = run.trainer().run(source, {.should_stop = [] { return true; }});
  EXPECT_EQ(summary.steps, 1);
  EXPECT_TRUE(summary.stopped);
}

}  // namespace
}  // namespace bezel::train
