#include "bezel/train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <utility>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <sys/resource.h>

#include "bezel/error.h"
#include "bezel/nn/random_keys.h"

namespace bezel::train {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// The time between two calls.
class Stopwatch {
 public:
  double lap() {
    const auto now = Clock::now();
    return std::chrono::duration<double>(now - std::exchange(last_, now)).count();
  }

 private:
  Clock::time_point last_ = Clock::now();
};

void add_step(TrainerState& state, const StepResult& step) {
  state.num_tokens += step.num_tokens;
  state.window.tokens += step.num_tokens;
  state.window.learning_rate = step.learning_rate;
  if (step.skipped) {
    ++state.skipped_steps;
    return;
  }
  if (state.steps_done - state.skipped_steps == 1) state.first_loss = step.loss;
  state.last_loss = step.loss;
  state.loss_sum += step.loss;
  ++state.window.steps;
  state.window.loss += step.loss;
  state.window.grad_norm += step.grad_norm;
  add_metrics(state.window.metrics, step.metrics);
}

bool is_due(std::int64_t every, std::int64_t steps_done) { return every > 0 && steps_done % every == 0; }

}  // namespace

Trainer::Trainer(torch::nn::Module& model, const lora::Selection& selection, Objective& objective,
                 TrainerOptions options, ProcessGroup& group)
    : model_(model),
      objective_(objective),
      options_(std::move(options)),
      group_(group),
      optimizer_(selection.named_tensors(), options_.optimizer),
      audit_(selection) {
  TORCH_CHECK(options_.learning_rate, "the trainer needs a learning rate");
  if (options_.reduce_in_bfloat16 && group_.size() > 1) residuals_ = make_residuals(optimizer_.parameters());
  TORCH_CHECK(options_.steps_per_epoch > 0, "an epoch has ", options_.steps_per_epoch, " steps");
}

// Adds the gradients of all micro-batches, and sets loss, gradient norm and `skipped` of `result`.
void Trainer::accumulate(std::int64_t step, std::span<const data::Batch> batches, StepResult& result) {
  const nn::ScopedRandomKeys random(nn::RandomKeys::of_step(options_.seed, step));
  StepSums sums;
  std::vector<torch::Tensor> losses;
  for (const data::Batch& batch : batches) {
    if (objective_.weight(batch) == 0) continue;
    const torch::Tensor loss = objective_.loss_sum(batch) / static_cast<double>(result.num_labels);
    losses.push_back(loss.detach());
    add_metrics(sums.metrics, objective_.take_metrics());
    // NaN or Inf: skip the remaining micro-batches. A device is not waited for; what it adds up is thrown away below.
    if (loss.is_cpu() && !std::isfinite(loss.item<double>())) break;
    loss.backward();
  }
  if (!losses.empty()) {
    const torch::Tensor read = at::stack(losses).to(torch::kCPU, torch::kDouble);
    sums.losses.assign(read.const_data_ptr<double>(), read.const_data_ptr<double>() + read.size(0));
  }
  result.loss = sum_step(group_, optimizer_.parameters(), sums, residuals_);
  result.metrics = std::move(sums.metrics);
  result.grad_norm = std::isfinite(result.loss) ? optimizer_.gradient_norm() : result.loss;
  result.skipped = !std::isfinite(result.loss) || !std::isfinite(result.grad_norm);
}

void Trainer::update(std::int64_t step, const StepResult& result) {
  if (audit_) audit_->check(step + 1);
  if (options_.max_grad_norm > 0) optimizer_.clip(result.grad_norm, options_.max_grad_norm);
  optimizer_.step(result.learning_rate);
  if (audit_ && audit_->done()) audit_.reset();
}

StepResult Trainer::step(std::int64_t step, std::span<const data::Batch> batches) {
  StepResult result{.learning_rate = options_.learning_rate(step)};
  for (const data::Batch& batch : batches) {
    result.num_tokens += batch.num_tokens;
    result.num_labels += objective_.weight(batch);
  }
  sum_counts(group_, {&result.num_tokens, &result.num_labels});
  if (result.num_labels == 0 && group_.size() > 1) throw Error("no sample of step ", step + 1, " can be decoded");
  TORCH_CHECK(result.num_labels > 0, "step ", step, " has no label token");
  optimizer_.clear_gradients();
  accumulate(step, batches, result);
  check_inputs();
  if (!result.skipped) update(step, result);
  optimizer_.clear_gradients();
  state_.steps_done = step + 1;
  add_step(state_, result);
  count_bad(step, result);
  return result;
}

void Trainer::check_inputs() const {
  if (options_.check_inputs) options_.check_inputs();
}

void Trainer::count_bad(std::int64_t step, const StepResult& result) {
  state_.bad_in_a_row = result.skipped ? state_.bad_in_a_row + 1 : 0;
  if (state_.bad_in_a_row < options_.max_bad_steps) return;
  throw Error(ErrorKind::kDiverged, "step ", step + 1, ": loss ", result.loss, ", gradient norm ", result.grad_norm,
              "; ", state_.bad_in_a_row, " steps in a row without finite numbers. Try a lower learning_rate (now ",
              result.learning_rate, "), a longer warm-up, or dtype: float32");
}

EvalReport Trainer::evaluate(const BatchSource& source) {
  const auto start = Clock::now();
  EvalReport report;
  model_.eval();
  {
    const at::NoGradGuard no_grad;
    std::vector<EvalBatch> batches;
    for (std::int64_t i = 0; i < source.num_eval_batches; ++i) {
      const data::Batch batch = source.eval(i);
      const std::int64_t weight = objective_.weight(batch);
      if (weight == 0) continue;
      const EvalSums some = objective_.evaluate(batch);
      batches.push_back({weight, some, objective_.take_metrics()});
    }
    double loss = 0.0;
    std::int64_t correct = 0;
    bool counts_correct = true;
    Metrics metrics;
    for (const EvalBatch& batch : gather_batches(group_, batches)) {
      loss += batch.sums.loss;
      correct += batch.sums.correct.value_or(0);
      counts_correct = counts_correct && batch.sums.correct.has_value();
      add_metrics(metrics, batch.metrics);
      report.num_labels += batch.weight;
    }
    TORCH_CHECK(report.num_labels > 0, "the evaluation set has no label token");
    const auto num_labels = static_cast<double>(report.num_labels);
    report.loss = loss / num_labels;
    if (counts_correct) report.accuracy = static_cast<double>(correct) / num_labels;
    if (source.exact_match) report.exact_match = source.exact_match();
    report.metrics = metric_means(metrics);
  }
  model_.train();
  check_inputs();
  report.seconds = seconds_since(start);
  return report;
}

double EvalReport::metric(BestMetric metric) const {
  constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  return metric == BestMetric::kLoss            ? loss
         : metric == BestMetric::kTokenAccuracy ? accuracy.value_or(kNone)
                                                : exact_match.value_or(kNone);
}

double Trainer::epoch_of(std::int64_t steps_done) const {
  return static_cast<double>(steps_done) / static_cast<double>(options_.steps_per_epoch);
}

// Of the time since the last report; the mean of all processes.
double Trainer::share_waited(double seconds) {
  const double waited = group_.waited_s() - std::exchange(waited_s_, group_.waited_s());
  return mean_of_ranks(group_, waited / std::max(seconds, 1e-9));
}

// Means since the last report, which end with it.
StepReport Trainer::make_report() {
  const ReportWindow window = std::exchange(state_.window, {});
  const auto mean = [&](double sum) {
    return window.steps > 0 ? sum / static_cast<double>(window.steps) : std::numeric_limits<double>::quiet_NaN();
  };
  const auto done = static_cast<double>(state_.steps_done);
  return {.step = state_.steps_done,
          .total_steps = options_.total_steps,
          .epoch = epoch_of(state_.steps_done),
          .loss = mean(window.loss),
          .learning_rate = window.learning_rate,
          .grad_norm = mean(window.grad_norm),
          .tokens_per_s = static_cast<double>(window.tokens) / std::max(window.seconds, 1e-9),
          .seconds_left = state_.seconds / done * (static_cast<double>(options_.total_steps) - done),
          .peak_memory_bytes = peak_memory_bytes(),
          .skipped_steps = state_.skipped_steps,
          .metrics = metric_means(window.metrics),
          .ranks = group_.size(),
          .waited = share_waited(window.seconds)};
}

// Whether it is the best so far.
bool Trainer::evaluate(const BatchSource& source, const TrainerEvents& events) {
  EvalReport report = evaluate(source);
  report.step = state_.steps_done;
  report.epoch = epoch_of(state_.steps_done);
  const bool is_best = count_evaluation(state_, report.metric(options_.stopping.metric), options_.stopping);
  if (events.on_eval) events.on_eval(report);
  return is_best;
}

bool Trainer::is_save_due(bool is_last, bool stopped, bool new_best) const {
  if (stopped || (new_best && options_.save_best)) return true;
  return options_.save_steps > 0 && (is_due(options_.save_steps, state_.steps_done) || is_last);
}

TrainSummary Trainer::run(const BatchSource& source, const TrainerEvents& events) {
  Stopwatch watch;
  bool stopped = false;
  model_.train();
  // A resumed run may already be complete.
  bool stops = state_.steps_done < options_.total_steps && stops_early(state_, options_.stopping);
  while (state_.steps_done < options_.total_steps && !stopped && !stops) {
    const std::int64_t idx = state_.steps_done;
    step(idx, source.train(idx));
    const double step_seconds = watch.lap();
    state_.seconds += step_seconds;
    state_.window.seconds += step_seconds;
    const std::int64_t done = state_.steps_done;
    const bool is_last = done == options_.total_steps;
    stopped = !is_last && any_rank(group_, events.should_stop && events.should_stop());
    if (is_due(options_.logging_steps, done) || is_last) {
      const StepReport report = make_report();
      if (events.on_step) events.on_step(report);
    }
    bool new_best = false;
    if ((source.evaluates || source.num_eval_batches > 0) &&
        (is_last || (is_due(options_.eval_steps, done) && done >= options_.first_eval)))
      new_best = evaluate(source, events);
    stops = !is_last && stops_early(state_, options_.stopping);
    if (events.on_save && is_save_due(is_last || stops, stopped, new_best)) events.on_save(state());
  }
  state_.seconds += watch.lap();
  TrainSummary result = summary();
  result.stopped = stopped && !stops;
  result.stopped_early = stops;
  return result;
}

TrainSummary Trainer::summary() const {
  const std::int64_t steps = std::max<std::int64_t>(1, state_.steps_done - state_.skipped_steps);
  return {.steps = state_.steps_done,
          .mean_loss = state_.loss_sum / static_cast<double>(steps),
          .first_loss = state_.first_loss,
          .last_loss = state_.last_loss,
          .seconds = state_.seconds,
          .num_tokens = state_.num_tokens,
          .skipped_steps = state_.skipped_steps};
}

TrainerState Trainer::state() const {
  TrainerState state = state_;
  if (audit_) state.audited = audit_->seen();
  return state;
}

void Trainer::restore(const TrainerState& state) {
  state_ = state;
  state_.audited.reset();
  if (!state.audited) audit_.reset();
  if (audit_) audit_->restore(*state.audited);
}

std::int64_t peak_memory_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::int64_t>(usage.ru_maxrss) * 1024;
}

}  // namespace bezel::train
