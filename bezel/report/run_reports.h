#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "bezel/report/history.h"
#include "bezel/report/tensorboard.h"
#include "bezel/train/run.h"

namespace bezel::report {

/// Writes what `report_to` asks for beside metrics.jsonl into a run's output folder: TensorBoard events in runs/, and
/// report.html, which is also written during training. Reports that cannot be written do not stop a run: the
/// first reason is kept in problem().
class RunReports {
 public:
  /// `environment` goes into report.html after what describe_environment() says.
  RunReports(const train::TrainConfig& config, std::vector<Setting> environment);
  /// A run that was not finished is shown as ended early.
  ~RunReports();
  RunReports(const RunReports&) = delete;
  RunReports& operator=(const RunReports&) = delete;

  /// Events that keep the reports and then call those of `inner`. They must not outlive this object.
  train::RunEvents events(train::RunEvents inner);
  void finish(const train::TrainSummary& summary);
  /// The run ended with this error.
  void fail(const std::string& message);

  /// All that happened so far.
  const RunHistory& history() const { return history_; }
  /// Why a report is missing or not up to date; "" when all is well.
  const std::string& problem() const { return problem_; }

 private:
  void start(const train::RunPlan& plan);
  void add(const train::StepReport& report);
  void add(const train::EvalReport& report);
  void add(std::int64_t step, const std::vector<train::LayerSaturation>& layers);
  void add(std::int64_t step, const std::vector<train::LayerLoad>& layers);
  void write_events(std::int64_t step, std::vector<Scalar> scalars);
  void write_page(bool now);
  template <typename Action>
  void guarded(Action action);

  using Clock = std::chrono::steady_clock;

  train::TrainConfig config_;
  bool wants_events_ = false, wants_page_ = false;
  RunHistory history_;
  std::int64_t logging_steps_ = 1;
  bool started_ = false, first_report_ = true;
  std::unique_ptr<EventWriter> writer_;
  Clock::time_point start_ = Clock::now(), last_page_ = {};
  std::string problem_;
};

/// The rows of a metrics.jsonl, added to `history`. Throws Error when the file is not one.
void read_metrics(const std::string& path, RunHistory& history);

}  // namespace bezel::report
