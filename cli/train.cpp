#include <csignal>
#include <cstdio>

#include <unistd.h>

#include "bezel/error.h"
#include "bezel/report/run_reports.h"
#include "bezel/train/run.h"
#include "cli/allocator.h"
#include "cli/command.h"
#include "cli/config_arguments.h"
#include "cli/json_lines.h"
#include "cli/one_line.h"
#include "cli/processes.h"
#include "cli/progress.h"
#include "cli/train_help.h"
#include "cli/train_summary.h"

namespace bezel::cli {
namespace {

volatile std::sig_atomic_t stop_signal = 0;

// Once: the step is finished, a checkpoint and the adapter written. Twice: at once; what was being written is left
// unfinished under another name.
void on_signal(int number) {
  if (stop_signal != 0) ::_exit(128 + number);
  stop_signal = number;
}

void catch_signals() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  ::sigemptyset(&action.sa_mask);
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  ::sigaction(SIGUSR1, &action, nullptr);  // which mpirun passes on at once
  // Whoever reads along may go away; hours of training should not go with them.
  std::signal(SIGPIPE, SIG_IGN);
}

enum class Display { kProgress, kQuiet, kJsonLines };

// Takes --quiet and --json-lines, which are no keys of a config, out of the arguments.
Display take_display(std::vector<std::string>& arguments) {
  const auto take = [&](const char* flag, const char* spelling) {
    return std::erase_if(arguments, [&](const std::string& item) { return item == flag || item == spelling; }) > 0;
  };
  const bool quiet = take("--quiet", "-q"), json_lines = take("--json-lines", "--json_lines");
  if (quiet && json_lines) throw Error(ErrorKind::kConfig, "--quiet and --json-lines contradict each other; keep one");
  return quiet ? Display::kQuiet : json_lines ? Display::kJsonLines : Display::kProgress;
}

train::RunEvents display_events(Display display, Progress& progress) {
  if (display == Display::kQuiet) return warning_events();
  if (display == Display::kJsonLines) return json_line_events();
  train::RunEvents events;
  events.on_start = [&](const train::RunPlan& plan) { progress.start(plan); };
  events.on_step = [&](const train::StepReport& report) { progress.step(report); };
  events.on_eval = [&](const train::EvalReport& report) { progress.evaluation(report); };
  events.on_save = [&](const std::string& folder) { progress.saved(folder); };
  events.on_save_failed = [&](const std::string& why) { progress.save_failed(why); };
  events.on_left_out = [&](const std::string& why) { progress.left_out(why); };
  events.on_reference = [&](std::size_t done, std::size_t total) { progress.reference(done, total); };
  return events;
}

// A report of a run that fails says why.
train::RunResult run_reported(const train::TrainConfig& config, report::RunReports& reports,
                              const train::RunEvents& events, train::ProcessGroup& group) {
  try {
    keep_freed_memory();
    train::RunResult result = train::run_training(config, events, group);
    reports.finish(result.summary);
    return result;
  } catch (const std::exception& error) {
    reports.fail(error.what());
    throw;
  }
}

// A signal may have reached one process only, whose word counts for all.
int exit_code(const train::RunResult& result) {
  if (!result.summary.stopped) return 0;
  return 128 + (stop_signal != 0 ? static_cast<int>(stop_signal) : SIGTERM);
}

// Rank 0 tells of the run and writes; the others tell of samples that they leave out.
int follow(const train::TrainConfig& config, train::ProcessGroup& group) {
  keep_freed_memory();
  train::RunEvents events;
  events.on_left_out = [&](const std::string& why) {
    std::fprintf(stderr, "warning: %s: left out: %s\n", group.name(group.rank()).c_str(), one_line(why).c_str());
  };
  events.should_stop = [] { return stop_signal != 0; };
  return exit_code(train::run_training(config, events, group));
}

int train(std::vector<std::string> arguments) {
  catch_signals();
  train::ProcessGroup& group = join_processes();
  const Display display = take_display(arguments);
  const train::TrainConfig config = config_of(std::move(arguments));
  if (!group.is_first()) return follow(config, group);
  Progress progress;
  train::RunEvents events = display_events(display, progress);
  events.should_stop = [] { return stop_signal != 0; };
  report::RunReports reports(config, {{"bezel", BEZEL_VERSION, false}});
  const train::RunResult result = run_reported(config, reports, reports.events(events), group);
  progress.finish();
  if (!reports.problem().empty())
    std::fprintf(stderr, "note: a report is not complete: %s\n", one_line(reports.problem()).c_str());
  for (const std::string& problem : result.problems)
    std::fprintf(stderr, "note: predictions.jsonl is not complete: %s\n", one_line(problem).c_str());
  if (display == Display::kProgress) std::printf("%s", summary_text(reports.history(), result).c_str());
  if (display == Display::kJsonLines) print_json_end(result);
  return exit_code(result);
}

}  // namespace

void add_train(CLI::App& app, int& status) {
  CLI::App* command = app.add_subcommand("train", "Fine-tune: bezel train [CONFIG.yaml] [--key value …]");
  command->footer(train_keys_help());
  run_with_config_keys(*command, status, train);
}

}  // namespace bezel::cli
