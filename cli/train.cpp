#include <algorithm>
#include <csignal>
#include <cstdio>

#include <unistd.h>

#include "bezel/error.h"
#include "bezel/train/config.h"
#include "bezel/train/run.h"
#include "cli/command.h"
#include "cli/progress.h"
#include "cli/train_help.h"

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
  // Whoever reads along may go away; hours of training should not go with them.
  std::signal(SIGPIPE, SIG_IGN);
}

void print_result(const train::RunResult& result) {
  std::printf("loss %.4f in the first step, %.4f in the last; %lld steps in %.1f s\nadapter: %s\n",
              result.summary.first_loss, result.summary.last_loss, static_cast<long long>(result.summary.steps),
              result.summary.seconds, result.adapter.c_str());
}

int train(std::vector<std::string> arguments) {
  std::string path;
  if (!arguments.empty() && !arguments.front().starts_with("--")) {
    path = arguments.front();
    arguments.erase(arguments.begin());
  }
  const train::TrainConfig config = train::read_train_config(path, train::parse_overrides(arguments));
  catch_signals();
  Progress progress;
  train::RunEvents events;
  events.on_start = [&](const train::RunPlan& plan) { progress.start(plan); };
  events.on_step = [&](const train::StepReport& report) { progress.step(report); };
  events.on_eval = [&](const train::EvalReport& report) { progress.evaluation(report); };
  events.on_save = [&](const std::string& folder) { progress.saved(folder); };
  events.on_save_failed = [&](const std::string& why) { progress.save_failed(why); };
  events.should_stop = [] { return stop_signal != 0; };
  const train::RunResult result = train::run_training(config, events);
  progress.finish();
  print_result(result);
  return result.summary.stopped ? 128 + static_cast<int>(stop_signal) : 0;
}

}  // namespace

void add_train(CLI::App& app, int& status) {
  CLI::App* command = app.add_subcommand("train", "Fine-tune: bezel train [CONFIG.yaml] [--key value …]");
  command->footer(train_keys_help());
  // Keys are no options of CLI11's: the config's own table knows them, their aliases and both spellings.
  command->prefix_command();
  command->callback([command, &status] {
    const std::vector<std::string> arguments = command->remaining();
    const auto asks = [](const std::string& argument) { return argument == "--help" || argument == "-h"; };
    if (std::ranges::any_of(arguments, asks)) {
      std::printf("%s", command->help().c_str());
      return;
    }
    status = train(arguments);
  });
}

}  // namespace bezel::cli
