#include <algorithm>
#include <cstdio>
#include <functional>
#include <optional>

#include <unistd.h>

#include "bezel/error.h"
#include "bezel/gemma4/model_files.h"
#include "bezel/report/data_check.h"
#include "bezel/report/run_estimate.h"
#include "bezel/report/sample_view.h"
#include "bezel/train/batch_plan.h"
#include "bezel/train/new_tokens.h"
#include "bezel/train/run_check.h"
#include "cli/check_text.h"
#include "cli/command.h"
#include "cli/config_arguments.h"
#include "cli/one_line.h"
#include "cli/sample_text.h"

namespace bezel::cli {
namespace {

using io::Json;

/// What is no key of a config.
struct PreprocessOptions {
  std::optional<std::size_t> show;
  bool dry_run = false, json = false, whole = false;
  std::string color = "auto";
};

constexpr std::size_t kShown = 3;

std::size_t parse_count(const std::string& flag, const std::string& text) {
  std::size_t end = 0, value = 0;
  try {
    value = std::stoul(text, &end);
  } catch (const std::exception&) {
    end = 0;
  }
  if (text.empty() || end != text.size() || text[0] == '-')
    throw Error(ErrorKind::kConfig, flag, ": got '", text, "', expected a number of samples");
  return value;
}

// Takes the command's own flags out of the arguments; the rest is for the config's table of keys.
PreprocessOptions take_options(std::vector<std::string>& arguments) {
  PreprocessOptions options;
  std::vector<std::string> rest;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& item = arguments[i];
    const std::string flag = item.substr(0, item.find('='));
    const auto value = [&] {
      if (flag.size() < item.size()) return item.substr(flag.size() + 1);
      if (i + 1 == arguments.size()) throw Error(ErrorKind::kConfig, flag, ": its value is missing");
      return arguments[++i];
    };
    if (flag == "--show")
      options.show = parse_count(flag, value());
    else if (item == "--dry-run" || item == "--dry_run")
      options.dry_run = true;
    else if (item == "--json")
      options.json = true;
    else if (item == "--whole")
      options.whole = true;
    else if (flag == "--color" || flag == "--colour")
      options.color = value();
    else
      rest.push_back(item);
  }
  if (options.color != "auto" && options.color != "always" && options.color != "never")
    throw Error(ErrorKind::kConfig, "--color: got '", options.color, "', expected auto, always or never");
  if (!options.show && !options.dry_run) options.show = kShown;
  arguments = rest;
  return options;
}

/// A bar on a terminal, which is gone at the end.
class Bar {
 public:
  explicit Bar(const char* what) : what_(what), is_terminal_(::isatty(STDERR_FILENO) == 1) {}
  ~Bar() {
    if (drawn_ >= 0) std::fprintf(stderr, "\r\033[K");
  }
  Bar(const Bar&) = delete;
  Bar& operator=(const Bar&) = delete;

  void operator()(std::size_t done, std::size_t total) {
    const auto percent = static_cast<int>(100 * done / std::max<std::size_t>(1, total));
    if (!is_terminal_ || percent == drawn_) return;
    drawn_ = percent;
    std::string cells;
    for (int i = 0; i < 20; ++i) cells += i < percent / 5 ? "█" : "░";
    std::fprintf(stderr, "\r\033[K%s %s %zu / %zu", what_, cells.c_str(), done, total);
    std::fflush(stderr);
  }

 private:
  const char* what_;
  bool is_terminal_;
  int drawn_ = -1;
};

train::BatchPlan read_data(train::TrainConfig config) {
  // All bad samples are wanted, not the first one.
  config.skip_bad_samples = true;
  Bar bar("reading");
  return train::BatchPlan(config, gemma4::read_model_config(train::model_files(config)), std::ref(bar));
}

Json show(const data::Dataset& data, const PreprocessOptions& options) {
  Json rows = Json::array();
  std::size_t shown = 0;
  const bool color = options.color == "always" || (options.color == "auto" && ::isatty(STDOUT_FILENO) == 1);
  for (std::size_t i = 0; i < std::min(*options.show, data.size()); ++i) {
    for (const report::SampleView& view : report::view_answers(data, i)) {
      if (!options.json) std::printf("%s%s", shown++ > 0 ? "\n" : "", sample_text(view, color, options.whole).c_str());
      if (options.json) rows.push_back(sample_json(view));
    }
  }
  return rows;
}

// The first rows of the first epoch: which samples share them.
Json show_rows(const train::BatchPlan& batches, const PreprocessOptions& options) {
  const auto rows = batches.epoch_rows(0);
  const data::Dataset& data = batches.train_data();
  Json out = Json::array();
  for (std::size_t i = 0; i < std::min(*options.show, rows->size()); ++i) {
    Json samples = Json::array();
    std::size_t tokens = 0;
    for (const std::size_t idx : rows->rows(i, i + 1)) {
      samples.push_back({{"source", data.source(idx)}, {"tokens", data.num_tokens(idx)}});
      tokens += data.num_tokens(idx);
    }
    if (!options.json) std::printf("%s", row_text(i, tokens, samples).c_str());
    out.push_back({{"tokens", tokens}, {"samples", samples}});
  }
  return out;
}

// What a dry run says among its counts. A run that cannot learn is refused there; its samples are shown all the same.
void print_notes(const train::TrainConfig& config, const train::BatchPlan& batches) {
  const auto print = [](const std::string& text) { std::fprintf(stderr, "note: %s\n", one_line(text).c_str()); };
  const data::Dataset& data = batches.train_data();
  if (const data::DatasetReport& read = data.report(); read.num_bad > 0)
    print(counted(static_cast<long long>(read.num_bad), "bad sample") + " left out, the first: " + read.bad[0] +
          " (--dry-run lists them)");
  for (const std::string& note : data.left_out_notes()) print(note);
  try {
    for (const std::string& note : train::check_learns(config, batches.total_steps())) print(note);
  } catch (const Error& error) {
    print(std::string("the run would not begin: ") + error.what());
  }
}

report::DataCheck check(const data::Dataset& data) {
  Bar bar("decoding media");
  return report::check_data(data, std::ref(bar));
}

// Returns whether every sample can be used.
bool dry_run(const train::TrainConfig& config, const train::BatchPlan& batches, const PreprocessOptions& options,
             Json& out) {
  const report::DataCheck train = check(batches.train_data());
  out["train"] = check_json(batches.train_data(), train);
  bool good = is_good(batches.train_data(), train);
  if (batches.eval_data() != nullptr) {
    const report::DataCheck eval = check(*batches.eval_data());
    out["eval"] = check_json(*batches.eval_data(), eval);
    good = good && is_good(*batches.eval_data(), eval);
  }
  out["run"] = estimate_json(report::estimate_run(config, batches, train));
  if (!options.json) std::printf("%s", check_text(out).c_str());
  return good || config.skip_bad_samples;
}

int preprocess(std::vector<std::string> arguments) {
  const PreprocessOptions options = take_options(arguments);
  train::TrainConfig config = config_of(std::move(arguments));
  train::settle_new_tokens(config, config.init_adapter);
  for (const std::string& note : config.notes) std::fprintf(stderr, "note: %s\n", one_line(note).c_str());
  const train::BatchPlan batches = read_data(config);
  Json out = Json::object();
  if (!options.dry_run) print_notes(config, batches);
  if (options.show) out["samples"] = show(batches.train_data(), options);
  if (options.show && batches.packs()) out["rows"] = show_rows(batches, options);
  if (options.show && options.dry_run && !options.json) std::printf("\n");
  const bool all_read = batches.train_data().report().num_bad == 0 || config.skip_bad_samples;
  const bool good = options.dry_run ? dry_run(config, batches, options, out) : all_read;
  if (options.json) std::printf("%s\n", out.dump(2, ' ', false, Json::error_handler_t::replace).c_str());
  return good ? 0 : static_cast<int>(ErrorKind::kData);
}

}  // namespace

void add_preprocess(CLI::App& app, int& status) {
  CLI::App* command = app.add_subcommand(
      "preprocess", "What the model will see, and what is wrong with the data: the same config as train");
  command->footer(
      "  --show N       print N samples: text with what carries loss set apart, tokens, media (3 without --dry-run)\n"
      "  --dry-run      read every sample, decode its media; counts, lengths, bad lines, steps, memory, time\n"
      "  --whole        do not shorten long samples\n"
      "  --color WHEN   auto, always or never\n"
      "  --json         as JSON\n\n"
      "Exit code 3 when a sample is bad and skip_bad_samples is not set.\n"
      "Keys, in CONFIG.yaml or as flags `--key value`: those of `bezel train`.");
  run_with_config_keys(*command, status, preprocess);
}

}  // namespace bezel::cli
