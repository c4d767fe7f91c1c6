#include "bezel/train/output.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "bezel/error.h"
#include "bezel/io/atomic_write.h"
#include "bezel/train/model_card.h"

namespace bezel::train {
namespace {

namespace fs = std::filesystem;
using io::Json;

// What a user of the adapter needs beside it, where the checkpoint has it.
constexpr const char* kProcessorFiles[] = {"tokenizer.json",      "tokenizer_config.json", "special_tokens_map.json",
                                           "chat_template.jinja", "processor_config.json", "preprocessor_config.json",
                                           "tokenizer.model",     "added_tokens.json",     "chat_template.json"};

/// JSON has no NaN: a loss that is none is written as null.
Json number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

Json to_json(const StepReport& report) {
  return {{"step", report.step},
          {"epoch", report.epoch},
          {"loss", number(report.loss)},
          {"grad_norm", number(report.grad_norm)},
          {"learning_rate", report.learning_rate},
          {"tokens_per_second", number(report.tokens_per_s)},
          {"peak_memory_bytes", report.peak_memory_bytes},
          {"skipped_steps", report.skipped_steps}};
}

Json to_json(const EvalReport& report) {
  return {{"step", report.step},
          {"epoch", report.epoch},
          {"eval_loss", number(report.loss)},
          {"eval_runtime", report.seconds},
          {"eval_labels", report.num_labels}};
}

void make_folder(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error || !fs::is_directory(path, error))
    throw Error(ErrorKind::kIo, path, ": cannot be made a folder", error ? ": " + error.message() : "");
}

int lock_folder(const std::string& path) {
  const std::string name = path + "/.bezel.lock";
  const int fd = ::open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) throw Error(ErrorKind::kIo, name, ": cannot be written: ", std::strerror(errno));
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    ::close(fd);
    throw Error(ErrorKind::kIo, path, ": another run writes to this folder; choose another output_dir");
  }
  return fd;
}

}  // namespace

OutputFolder::OutputFolder(const TrainConfig& config) : config_(config), path_(config.output_dir) {
  std::error_code error;
  if (fs::equivalent(path_, config.base_model, error))
    throw Error(ErrorKind::kConfig, "output_dir '", path_, "' is the checkpoint's own folder; choose another");
  make_folder(path_);
  lock_ = lock_folder(path_);
}

OutputFolder::~OutputFolder() {
  if (lock_ >= 0) ::close(lock_);
}

std::string OutputFolder::file(const std::string& name) const { return (fs::path(path_) / name).string(); }

void OutputFolder::start(const TrainConfig& resolved) {
  config_ = resolved;
  io::write_file_atomically(file("config.resolved.yaml"), to_yaml(config_));
  if (!config_.report_to.empty()) io::write_file_atomically(file("metrics.jsonl"), std::string_view());
  std::error_code error;
  fs::remove(file("trainer_state.json"), error);
}

void OutputFolder::append_metric(const Json& metric) {
  if (config_.report_to.empty()) return;
  std::ofstream stream(file("metrics.jsonl"), std::ios::app);
  stream << metric.dump() << '\n';
  stream.flush();
  if (!stream) throw Error(ErrorKind::kIo, file("metrics.jsonl"), ": cannot be written");
}

void OutputFolder::add(const StepReport& report) {
  last_ = report;
  append_metric(to_json(report));
  history_.push_back({{"epoch", report.epoch},
                      {"grad_norm", number(report.grad_norm)},
                      {"learning_rate", report.learning_rate},
                      {"loss", number(report.loss)},
                      {"step", report.step}});
}

void OutputFolder::add(const EvalReport& report) {
  append_metric(to_json(report));
  history_.push_back(to_json(report));
}

void OutputFolder::write_adapter(const std::string& folder, const lora::Selection& selection,
                                 const lora::AdapterBase& base) const {
  lora::save_adapter(folder, selection, config_.lora, base);
}

void OutputFolder::write_state(const std::string& folder) const {
  const Json state = {{"best_global_step", nullptr},
                      {"best_metric", nullptr},
                      {"best_model_checkpoint", nullptr},
                      {"epoch", last_.epoch},
                      {"eval_steps", config_.eval_steps ? Json(*config_.eval_steps) : Json(nullptr)},
                      {"global_step", last_.step},
                      {"is_hyper_param_search", false},
                      {"is_local_process_zero", true},
                      {"is_world_process_zero", true},
                      {"log_history", history_},
                      {"logging_steps", config_.logging_steps},
                      {"max_steps", last_.total_steps},
                      {"num_input_tokens_seen", 0},
                      {"num_train_epochs", static_cast<std::int64_t>(std::ceil(config_.num_train_epochs))},
                      {"save_steps", config_.save_steps},
                      {"stateful_callbacks", Json::object()},
                      {"total_flos", 0.0},
                      {"train_batch_size", config_.micro_batch_size},
                      {"trial_name", nullptr},
                      {"trial_params", nullptr}};
  io::write_file_atomically((fs::path(folder) / "trainer_state.json").string(), state.dump(2) + "\n");
}

void OutputFolder::save_checkpoint(std::int64_t step, const lora::Selection& selection, const lora::AdapterBase& base) {
  const std::string name = file("checkpoint-" + std::to_string(step));
  const std::string unfinished = name + ".tmp";
  std::error_code error;
  fs::remove_all(unfinished, error);
  make_folder(unfinished);
  write_adapter(unfinished, selection, base);
  write_state(unfinished);
  fs::remove_all(name, error);
  fs::rename(unfinished, name, error);
  if (error) throw Error(ErrorKind::kIo, name, ": cannot be written: ", error.message());
  checkpoints_.push_back(name);
  const auto limit = static_cast<std::size_t>(config_.save_total_limit);
  while (limit > 0 && checkpoints_.size() > limit) {
    fs::remove_all(checkpoints_.front(), error);
    checkpoints_.erase(checkpoints_.begin());
  }
}

void OutputFolder::copy_processor_files() const {
  for (const char* name : kProcessorFiles) {
    const fs::path source = fs::path(config_.base_model) / name;
    std::error_code error;
    if (!fs::is_regular_file(source, error)) continue;
    fs::copy_file(source, file(name), fs::copy_options::overwrite_existing, error);
    if (error) throw Error(ErrorKind::kIo, file(name), ": cannot be written: ", error.message());
  }
}

std::string OutputFolder::finish(const TrainSummary& summary, const lora::Selection& selection,
                                 const lora::AdapterBase& base) {
  history_.push_back({{"epoch", last_.epoch},
                      {"step", summary.steps},
                      {"train_loss", number(summary.mean_loss)},
                      {"train_runtime", summary.seconds},
                      {"train_steps_per_second", number(static_cast<double>(summary.steps) / summary.seconds)}});
  copy_processor_files();
  write_state(path_);
  io::write_file_atomically(file("README.md"), model_card(config_, summary, selection, history_));
  write_adapter(path_, selection, base);
  return path_;
}

}  // namespace bezel::train
