#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <torch/nn/module.h>

#include "bezel/data/batch.h"
#include "bezel/lora/audit.h"
#include "bezel/lora/targets.h"
#include "bezel/train/objective.h"
#include "bezel/train/optimizer.h"
#include "bezel/train/process_group.h"
#include "bezel/train/reduction.h"
#include "bezel/train/stopping.h"
#include "bezel/train/trainer_state.h"

namespace bezel::train {

struct TrainerOptions {
  std::int64_t total_steps = 1;      ///< optimizer steps
  std::int64_t steps_per_epoch = 1;  ///< for the epoch shown in reports
  double max_grad_norm = 1.0;        ///< 0: gradients are not clipped
  OptimizerSettings optimizer;
  std::function<double(std::int64_t)> learning_rate;  ///< rate of step n, counted from 0
  std::int64_t logging_steps = 1;
  std::int64_t eval_steps = 0;  ///< 0: no evaluation on the way
  std::int64_t first_eval = 0;  ///< no evaluation before this step, except the last one
  std::int64_t save_steps = 0;  ///< 0: only when the run is stopped
  bool save_best = false;       ///< after evaluations that are the best so far
  StoppingOptions stopping;
  std::uint64_t seed = 0;           ///< of dropout and noise
  bool reduce_in_bfloat16 = false;  ///< gradients travel rounded, where there are several processes
  std::int64_t max_bad_steps = 5;   ///< steps in a row without finite loss and gradients, after which the run stops
  /// Called whenever the model has been used, before the result counts; throws when its input cannot be trusted.
  std::function<void()> check_inputs = {};
};

/// Where the batches come from: those of this process. They are on the CPU.
struct BatchSource {
  /// The micro-batches of step n, counted from 0.
  std::function<std::vector<data::Batch>(std::int64_t)> train;
  bool evaluates = false;  ///< some process has evaluation batches
  std::int64_t num_eval_batches = 0;
  std::function<data::Batch(std::int64_t)> eval;
  /// Share of all held-out samples whose answer the model gives; empty: not measured. Collective.
  std::function<double()> exact_match = {};
};

/// One optimizer step.
struct StepResult {
  double loss = 0.0;       ///< mean over the objective's units in all micro-batches
  double grad_norm = 0.0;  ///< before clipping
  double learning_rate = 0.0;
  std::int64_t num_tokens = 0;
  std::int64_t num_labels = 0;  ///< the objective's units
  Metrics metrics{};            ///< the objective's
  bool skipped = false;         ///< the loss or a gradient was NaN or Inf; nothing was updated
};

/// What is shown every logging_steps; loss, norm and speed are means since the last report.
struct StepReport {
  std::int64_t step = 0;  ///< steps done
  std::int64_t total_steps = 0;
  double epoch = 0.0;
  double loss = 0.0;  ///< NaN when every step since the last report was skipped
  double learning_rate = 0.0;
  double grad_norm = 0.0;
  double tokens_per_s = 0.0;
  double seconds_left = 0.0;
  std::int64_t peak_memory_bytes = 0;       ///< of the process
  std::int64_t skipped_steps = 0;           ///< of the whole run
  std::map<std::string, double> metrics{};  ///< means of what the objective measures
  std::int64_t ranks = 1;                   ///< processes
  double waited = 0.0;                      ///< share of its time that a process waits for others, the mean of all
};

struct EvalReport {
  std::int64_t step = 0;
  double epoch = 0.0;
  double loss = 0.0;  ///< mean over the objective's units in the evaluation set
  std::int64_t num_labels = 0;
  double seconds = 0.0;
  std::optional<double> accuracy = {};     ///< share of the units that the model gets right
  std::optional<double> exact_match = {};  ///< share of the held-out samples, see BatchSource
  std::map<std::string, double> metrics = {};

  /// NaN where it was not measured.
  double metric(BestMetric metric) const;
};

/// Events of a run; each may be empty.
struct TrainerEvents {
  std::function<void(const StepReport&)> on_step = {};
  std::function<void(const EvalReport&)> on_eval = {};
  /// After every save_steps steps, the last step, an evaluation that is better than all before, and a stop. May throw.
  std::function<void(const TrainerState&)> on_save = {};
  std::function<bool()> should_stop = {};  ///< asked after each step
};

struct TrainSummary {
  std::int64_t steps = 0;
  double mean_loss = 0.0;  ///< over all steps that were not skipped
  double first_loss = 0.0;
  double last_loss = 0.0;
  double seconds = 0.0;
  std::int64_t num_tokens = 0;
  std::int64_t skipped_steps = 0;
  bool stopped = false;                      ///< should_stop said so
  bool stopped_early = false;                ///< patience came to its end
  std::optional<BestEval> best_loaded = {};  ///< the adapter is that of this evaluation, not of the last step
};

/// The optimizer loop: accumulate, sum over the processes, audit, clip, step, evaluate, report. Knows nothing of files.
/// With several processes step(), evaluate() and run() are collective, and results are those of all.
class Trainer {
 public:
  /// `model` is switched between training and evaluation mode; the adapters of `selection` are updated. `model`,
  /// `objective` and `group` must outlive the trainer.
  Trainer(torch::nn::Module& model, const lora::Selection& selection, Objective& objective, TrainerOptions options,
          ProcessGroup& group = single_process());

  /// One update from the `batches` of all processes: the objective's mean over their units. `step` counts from 0.
  /// Throws Error (kDiverged) when an adapter gets no gradient, and after max_bad_steps bad steps in a row.
  StepResult step(std::int64_t step, std::span<const data::Batch> batches);
  /// The objective's mean over the units of the source's evaluation batches.
  EvalReport evaluate(const BatchSource& source);
  /// All steps from the first, or the one after state().steps_done, to the last.
  TrainSummary run(const BatchSource& source, const TrainerEvents& events);

  /// What to save beside the adapters, the optimizer and the random numbers, and the same put back before run().
  TrainerState state() const;
  /// Of the steps done so far.
  TrainSummary summary() const;
  void restore(const TrainerState& state);
  Optimizer& optimizer() { return optimizer_; }
  /// This process's; empty where gradients travel in float32.
  Residuals& residuals() { return residuals_; }

 private:
  void accumulate(std::int64_t step, std::span<const data::Batch> batches, StepResult& result);
  void update(std::int64_t step, const StepResult& result);
  void count_bad(std::int64_t step, const StepResult& result);
  void check_inputs() const;
  double epoch_of(std::int64_t steps_done) const;
  StepReport make_report();
  double share_waited(double seconds);
  bool evaluate(const BatchSource& source, const TrainerEvents& events);
  bool is_save_due(bool is_last, bool stopped, bool new_best) const;

  torch::nn::Module& model_;
  Objective& objective_;
  TrainerOptions options_;
  ProcessGroup& group_;
  Optimizer optimizer_;
  Residuals residuals_;
  std::optional<lora::GradientAudit> audit_;  // until everything has been seen to train
  TrainerState state_;                        // without the audit
  double waited_s_ = 0.0;                     // by the group, when the last report was made
};

/// The most memory the process has had, in bytes.
std::int64_t peak_memory_bytes();

}  // namespace bezel::train
