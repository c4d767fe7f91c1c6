#include "bezel/train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <sys/resource.h>

#include "bezel/error.h"

namespace bezel::train {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::int64_t count_labels(std::span<const data::Batch> batches) {
  std::int64_t labels = 0;
  for (const data::Batch& batch : batches) labels += batch.num_labels();
  return labels;
}

// Adds steps up until a report is due.
class Window {
 public:
  void add(const StepResult& step) {
    tokens_ += step.num_tokens;
    learning_rate_ = step.learning_rate;
    if (step.skipped) return;
    ++steps_;
    loss_ += step.loss;
    grad_norm_ += step.grad_norm;
  }

  // Fills in what is a mean, and starts anew.
  void report(StepReport& report) {
    const auto mean = [&](double sum) { return steps_ > 0 ? sum / steps_ : std::numeric_limits<double>::quiet_NaN(); };
    report.loss = mean(loss_);
    report.grad_norm = mean(grad_norm_);
    report.learning_rate = learning_rate_;
    report.tokens_per_s = static_cast<double>(tokens_) / std::max(seconds_since(start_), 1e-9);
    *this = Window();
  }

 private:
  Clock::time_point start_ = Clock::now();
  double loss_ = 0.0, grad_norm_ = 0.0, learning_rate_ = 0.0;
  std::int64_t steps_ = 0, tokens_ = 0;
};

void add_step(TrainSummary& summary, const StepResult& step) {
  ++summary.steps;
  summary.num_tokens += step.num_tokens;
  if (step.skipped) {
    ++summary.skipped_steps;
    return;
  }
  if (summary.steps - summary.skipped_steps == 1) summary.first_loss = step.loss;
  summary.last_loss = step.loss;
  summary.mean_loss += step.loss;  // a sum until the run ends
}

bool is_due(std::int64_t every, std::int64_t steps_done) { return every > 0 && steps_done % every == 0; }

}  // namespace

Trainer::Trainer(torch::nn::Module& model, const lora::Selection& selection, LossFunction loss, TrainerOptions options)
    : model_(model),
      loss_(std::move(loss)),
      options_(std::move(options)),
      optimizer_(selection.tensors(), options_.adam),
      audit_(selection) {
  TORCH_CHECK(options_.learning_rate, "the trainer needs a learning rate");
  TORCH_CHECK(options_.steps_per_epoch > 0, "an epoch has ", options_.steps_per_epoch, " steps");
}

StepResult Trainer::step(std::int64_t step, std::span<const data::Batch> batches) {
  StepResult result{.learning_rate = options_.learning_rate(step), .num_labels = count_labels(batches)};
  TORCH_CHECK(result.num_labels > 0, "step ", step, " has no label token");
  optimizer_.clear_gradients();
  for (const data::Batch& batch : batches) {
    result.num_tokens += batch.num_tokens;
    if (batch.num_labels() == 0) continue;
    const torch::Tensor loss = loss_(batch) / static_cast<double>(result.num_labels);
    result.loss += loss.item<double>();
    // What is no number stays none: the rest of the step would be work for nothing.
    if (!std::isfinite(result.loss)) break;
    loss.backward();
  }
  result.grad_norm = std::isfinite(result.loss) ? optimizer_.gradient_norm() : result.loss;
  result.skipped = !std::isfinite(result.loss) || !std::isfinite(result.grad_norm);
  if (!result.skipped) {
    if (audit_) audit_->check(step + 1);
    if (options_.max_grad_norm > 0) optimizer_.clip(result.grad_norm, options_.max_grad_norm);
    optimizer_.step(result.learning_rate);
    if (audit_ && audit_->done()) audit_.reset();
  }
  optimizer_.clear_gradients();
  count_bad(step, result);
  return result;
}

void Trainer::count_bad(std::int64_t step, const StepResult& result) {
  bad_in_a_row_ = result.skipped ? bad_in_a_row_ + 1 : 0;
  if (bad_in_a_row_ < options_.max_bad_steps) return;
  throw Error(ErrorKind::kDiverged, "step ", step + 1, ": loss ", result.loss, ", gradient norm ", result.grad_norm,
              "; ", bad_in_a_row_, " steps in a row without finite numbers. Try a lower learning_rate (now ",
              result.learning_rate, "), a longer warm-up, or dtype: float32");
}

EvalReport Trainer::evaluate(const BatchSource& source) {
  const auto start = Clock::now();
  EvalReport report;
  model_.eval();
  {
    const at::NoGradGuard no_grad;
    double sum = 0.0;
    for (std::int64_t i = 0; i < source.num_eval_batches; ++i) {
      const data::Batch batch = source.eval(i);
      if (batch.num_labels() == 0) continue;
      sum += loss_(batch).item<double>();
      report.num_labels += batch.num_labels();
    }
    TORCH_CHECK(report.num_labels > 0, "the evaluation set has no label token");
    report.loss = sum / static_cast<double>(report.num_labels);
  }
  model_.train();
  report.seconds = seconds_since(start);
  return report;
}

double Trainer::epoch_of(std::int64_t steps_done) const {
  return static_cast<double>(steps_done) / static_cast<double>(options_.steps_per_epoch);
}

TrainSummary Trainer::run(const BatchSource& source, const TrainerEvents& events) {
  const auto start = Clock::now();
  TrainSummary summary;
  Window window;
  model_.train();
  for (std::int64_t done = 1; done <= options_.total_steps && !summary.stopped; ++done) {
    const StepResult result = step(done - 1, source.train(done - 1));
    add_step(summary, result);
    window.add(result);
    const bool is_last = done == options_.total_steps;
    summary.stopped = !is_last && events.should_stop && events.should_stop();
    if (is_due(options_.logging_steps, done) || is_last || summary.stopped) {
      StepReport report{.step = done, .total_steps = options_.total_steps, .epoch = epoch_of(done)};
      window.report(report);
      report.seconds_left =
          seconds_since(start) / static_cast<double>(done) * static_cast<double>(options_.total_steps - done);
      report.peak_memory_bytes = peak_memory_bytes();
      report.skipped_steps = summary.skipped_steps;
      if (events.on_step) events.on_step(report);
    }
    if (source.num_eval_batches > 0 && (is_due(options_.eval_steps, done) || is_last)) {
      EvalReport report = evaluate(source);
      report.step = done;
      report.epoch = epoch_of(done);
      if (events.on_eval) events.on_eval(report);
    }
    if (is_due(options_.save_steps, done) && !is_last && events.on_save) events.on_save(done);
  }
  summary.mean_loss /= static_cast<double>(std::max<std::int64_t>(1, summary.steps - summary.skipped_steps));
  summary.seconds = seconds_since(start);
  return summary;
}

std::int64_t peak_memory_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::int64_t>(usage.ru_maxrss) * 1024;
}

}  // namespace bezel::train
