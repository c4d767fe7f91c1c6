#include "bezel/train/output.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <random>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "bezel/data/new_tokens.h"
#include "bezel/error.h"
#include "bezel/io/atomic_folder.h"
#include "bezel/io/atomic_write.h"
#include "bezel/io/regular_file.h"
#include "bezel/io/sha256.h"
#include "bezel/train/model_card.h"

namespace bezel::train {
namespace {

namespace fs = std::filesystem;
using io::Json;

// What a user of the adapter needs beside it, where the checkpoint has it.
constexpr const char* kProcessorFiles[] = {"tokenizer.json",      "tokenizer_config.json", "special_tokens_map.json",
                                           "chat_template.jinja", "processor_config.json", "preprocessor_config.json",
                                           "tokenizer.model",     "added_tokens.json",     "chat_template.json"};

constexpr std::uintmax_t kMaxProcessorBytes = std::uintmax_t{256} << 20;

// They are copied last, when hours of training would be lost over them.
void check_processor_files(const std::string& folder) {
  for (const char* name : kProcessorFiles) {
    const fs::path path = fs::path(folder) / name;
    std::error_code error;
    const std::uintmax_t size_bytes = fs::is_regular_file(path, error) ? fs::file_size(path, error) : 0;
    if (!error && size_bytes > kMaxProcessorBytes)
      throw Error(path.string(), ": ", size_bytes, " bytes, at most ", kMaxProcessorBytes,
                  " are copied beside an adapter");
  }
}

void copy_file(const std::string& from, const std::string& to) {
  const io::RegularFile source(from);
  std::string chunk(std::size_t{1} << 20, '\0');
  io::write_file_atomically(to, [&](io::FileSink& sink) {
    std::uint64_t offset = 0;
    for (std::size_t got = chunk.size(); got == chunk.size(); offset += got) {
      got = source.read(chunk.data(), chunk.size(), offset);
      sink.write(chunk.data(), got);
    }
  });
}

Json to_json(const StepReport& report) {
  Json row = {{"step", report.step},
              {"epoch", report.epoch},
              {"loss", json_number(report.loss)},
              {"grad_norm", json_number(report.grad_norm)},
              {"learning_rate", report.learning_rate},
              {"tokens_per_second", json_number(report.tokens_per_s)},
              {"peak_memory_bytes", report.peak_memory_bytes},
              {"skipped_steps", report.skipped_steps}};
  if (report.ranks > 1) {
    row["ranks"] = report.ranks;
    row["waited"] = json_number(report.waited);
  }
  return with_metrics(std::move(row), report.metrics);
}

Json to_json(const EvalReport& report) {
  Json row = {{"step", report.step},
              {"epoch", report.epoch},
              {"eval_loss", json_number(report.loss)},
              {"eval_runtime", report.seconds},
              {"eval_labels", report.num_labels}};
  if (report.accuracy) row["eval_mean_token_accuracy"] = *report.accuracy;
  if (report.exact_match) row["eval_exact_match"] = *report.exact_match;
  return with_metrics(std::move(row), report.metrics, "eval_");
}

bool writes_metrics(const TrainConfig& config) {
  return std::ranges::find(config.report_to, "jsonl") != config.report_to.end();
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

constexpr std::size_t kRunIdDigits = 16;

std::string read_run_id(int fd) {
  std::string text(kRunIdDigits, '\0');
  const ssize_t got = ::pread(fd, text.data(), text.size(), 0);
  return got == static_cast<ssize_t>(text.size()) ? text : "";
}

// Of a folder that another process holds.
std::string saved_run_id(const std::string& path) {
  const int fd = ::open((path + "/.bezel.lock").c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return "";
  std::string id = read_run_id(fd);
  ::close(fd);
  return id;
}

std::string make_run_id() {
  std::random_device device;
  std::array<std::uint32_t, 2> words = {device(), device()};
  return io::to_hex({reinterpret_cast<const char*>(words.data()), sizeof words});
}

}  // namespace

OutputFolder::OutputFolder(const TrainConfig& config, bool writes)
    : config_(config), path_(config.output_dir), writes_(writes) {
  std::error_code error;
  if (fs::equivalent(path_, config.base_model, error))
    throw Error(ErrorKind::kConfig, "output_dir '", path_, "' is the checkpoint's own folder; choose another");
  if (!writes_) {
    run_id_ = saved_run_id(path_);
    return;
  }
  check_processor_files(config.base_model);
  make_folder(path_);
  lock_ = lock_folder(path_);
  run_id_ = read_run_id(lock_);
}

OutputFolder::~OutputFolder() {
  if (lock_ >= 0) ::close(lock_);
}

std::string OutputFolder::file(const std::string& name) const { return (fs::path(path_) / name).string(); }

std::string OutputFolder::checkpoint_path(std::int64_t step) const {
  return file("checkpoint-" + std::to_string(step));
}

// In the lock file, which is never replaced: its inode is the lock.
void OutputFolder::set_run_id(const std::string& id) {
  run_id_ = id;
  const ssize_t put = ::pwrite(lock_, id.data(), id.size(), 0);
  if (put != static_cast<ssize_t>(id.size()))
    throw Error(ErrorKind::kIo, file(".bezel.lock"), ": cannot be written: ", std::strerror(put < 0 ? errno : ENOSPC));
}

void OutputFolder::start(const RunLength& length, const std::optional<ResumePoint>& resume) {
  length_ = length;
  if (!writes_) return;
  io::remove_leftovers(path_, "checkpoint-");
  set_run_id(resume && !resume->state.run_id.empty() ? resume->state.run_id : make_run_id());
  io::write_file_atomically(file("config.resolved.yaml"), to_yaml(config_));
  if (!config_.new_tokens.empty()) copy_processor_files();  // for whoever reads a checkpoint
  std::string metrics;
  if (resume) {
    go_on_from(*resume);
    metrics = io::read_text_file((fs::path(resume->folder) / "metrics.jsonl").string());
  }
  if (writes_metrics(config_)) metrics_.begin(file("metrics.jsonl"), metrics);
  std::error_code error;
  fs::remove(file("trainer_state.json"), error);
}

void OutputFolder::go_on_from(const ResumePoint& resume) {
  const std::string path = (fs::path(resume.folder) / "trainer_state.json").string();
  const Json state = io::read_json_file(path, {.max_bytes = std::size_t{1} << 30});
  history_.restore(io::JsonView(state, path).at("log_history"));
  checkpoints_.clear();
  for (const NumberedCheckpoint& checkpoint : list_checkpoints(path_)) {
    if (checkpoint.step > resume.state.trainer.steps_done) continue;
    try {
      if (read_training_state(checkpoint.path).run_id == run_id_) checkpoints_.push_back(checkpoint.step);
    } catch (const Error&) {
      // Damaged, as find_resume_point() has said: not ours to remove.
    }
  }
  std::ranges::reverse(checkpoints_);
}

void OutputFolder::add(const StepReport& report) {
  if (!writes_) return;
  metrics_.add(to_json(report));
  history_.add(with_metrics({{"epoch", report.epoch},
                             {"grad_norm", json_number(report.grad_norm)},
                             {"learning_rate", report.learning_rate},
                             {"loss", json_number(report.loss)},
                             {"step", report.step}},
                            report.metrics));
}

void OutputFolder::add(const EvalReport& report) {
  if (!writes_) return;
  metrics_.add(to_json(report));
  history_.add(to_json(report));
}

void OutputFolder::add(std::int64_t step, const std::vector<LayerLoad>& layers) {
  if (!writes_) return;
  metrics_.add({{"step", step}, {"expert_load", to_json(layers)}});
}

std::string OutputFolder::state_text(const TrainerState& state, std::optional<std::int64_t> newest) const {
  const std::optional<BestEval>& best = state.best;
  const bool has_best = best && (newest == best->step || std::ranges::count(checkpoints_, best->step) > 0);
  const Json json = {{"best_global_step", best ? Json(best->step) : Json(nullptr)},
                     {"best_metric", best ? Json(best->value) : Json(nullptr)},
                     {"best_model_checkpoint", has_best ? Json(checkpoint_path(best->step)) : Json(nullptr)},
                     {"epoch", static_cast<double>(state.steps_done) / static_cast<double>(length_.steps_per_epoch)},
                     {"eval_steps", config_.eval_steps ? Json(*config_.eval_steps) : Json(nullptr)},
                     {"global_step", state.steps_done},
                     {"is_hyper_param_search", false},
                     {"is_local_process_zero", true},
                     {"is_world_process_zero", true},
                     {"log_history", nullptr},
                     {"logging_steps", config_.logging_steps},
                     {"max_steps", length_.total_steps},
                     {"num_input_tokens_seen", state.num_tokens},
                     {"num_train_epochs", static_cast<std::int64_t>(std::ceil(config_.num_train_epochs))},
                     {"save_steps", config_.save_steps},
                     {"stateful_callbacks", Json::object()},
                     {"total_flos", 0.0},
                     {"train_batch_size", config_.micro_batch_size},
                     {"trial_name", nullptr},
                     {"trial_params", nullptr}};
  std::string text = json.dump(2) + "\n";
  constexpr std::string_view kPlace = "\"log_history\": null";
  return text.replace(text.find(kPlace), kPlace.size(), "\"log_history\": " + history_.text());
}

std::string OutputFolder::save_checkpoint(TrainingState& state, const Trained& trained) {
  const std::int64_t step = state.trainer.steps_done;
  if (!writes_) return checkpoint_path(step);
  state.run_id = run_id_;
  const std::string trainer_state = state_text(state.trainer, step), metrics = metrics_.text();
  train::save_checkpoint(checkpoint_path(step), {.selection = trained.selection,
                                                 .lora = config_.lora,
                                                 .base = trained.base,
                                                 .optimizer = trained.optimizer,
                                                 .state = state,
                                                 .trainer_state = trainer_state,
                                                 .metrics = metrics,
                                                 .residuals = trained.residuals});
  if (std::ranges::count(checkpoints_, step) == 0) checkpoints_.push_back(step);
  remove_old_checkpoints(state.trainer.best);
  return checkpoint_path(step);
}

void OutputFolder::remove_old_checkpoints(const std::optional<BestEval>& best) {
  const auto limit = static_cast<std::size_t>(config_.save_total_limit);
  if (limit == 0 || checkpoints_.size() <= limit) return;
  const std::vector<std::int64_t> old(checkpoints_.begin(), checkpoints_.end() - config_.save_total_limit);
  for (const std::int64_t step : old) {
    if (best && best->step == step) continue;
    io::remove_folder(checkpoint_path(step));
    std::erase(checkpoints_, step);
  }
}

void OutputFolder::copy_processor_files() const {
  const auto made = data::tokenizer_files(config_.base_model, config_.new_tokens);
  for (const auto& [name, text] : made) io::write_file_atomically(file(name), text);
  for (const char* name : kProcessorFiles) {
    if (made.contains(name)) continue;
    const fs::path source = fs::path(config_.base_model) / name;
    std::error_code error;
    if (!fs::is_regular_file(source, error)) continue;
    copy_file(source.string(), file(name));
  }
}

std::string OutputFolder::finish(const TrainerState& state, const TrainSummary& summary, const Trained& trained) {
  if (!writes_) return path_;
  history_.add({{"epoch", static_cast<double>(summary.steps) / static_cast<double>(length_.steps_per_epoch)},
                {"step", summary.steps},
                {"train_loss", json_number(summary.mean_loss)},
                {"train_runtime", summary.seconds},
                {"train_steps_per_second", json_number(static_cast<double>(summary.steps) / summary.seconds)}});
  metrics_.finish();
  copy_processor_files();
  io::write_file_atomically(file("trainer_state.json"), state_text(state, std::nullopt));
  io::write_file_atomically(file("README.md"),
                            model_card(config_, trained.base, summary, trained.selection, history_.last_eval_loss()));
  lora::save_adapter(path_, trained.selection, config_.lora, trained.base);
  return path_;
}

}  // namespace bezel::train
