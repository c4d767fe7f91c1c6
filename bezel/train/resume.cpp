#include "bezel/train/resume.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <string_view>

#include "bezel/error.h"
#include "bezel/io/manifest.h"
#include "bezel/lora/file_names.h"

namespace bezel::train {
namespace {

namespace fs = std::filesystem;

std::optional<std::int64_t> step_of(const std::string& name) {
  constexpr std::string_view kPrefix = "checkpoint-";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  const char* const end = name.data() + name.size();
  std::int64_t step = 0;
  const auto [stopped, error] = std::from_chars(name.data() + kPrefix.size(), end, step);
  return error == std::errc() && stopped == end && step >= 0 ? std::optional(step) : std::nullopt;
}

// What another trainer saved, whose state is pickles; "" for anything else.
std::string foreign_checkpoint(const std::string& folder) {
  constexpr const char* kFiles[] = {"optimizer.pt",      "optimizer.bin",   "scheduler.pt", "rng_state.pth",
                                    "training_args.bin", "zero_to_fp32.py", "latest"};
  std::error_code error;
  if (fs::exists(fs::path(folder) / "MANIFEST.json", error)) return "";
  const auto* const found =
      std::ranges::find_if(kFiles, [&](const char* file) { return fs::exists(fs::path(folder) / file, error); });
  if (found == std::end(kFiles)) return "";
  const bool has_adapter = fs::exists(fs::path(folder) / lora::kAdapterWeights, error);
  return folder + ": a checkpoint of another trainer (transformers' Trainer or a tool over it: it has " + *found +
         "), whose state is in pickles that Bezel never reads; " +
         (has_adapter ? "to go on from its weights, start a run with init_adapter: " + folder
                      : "it has no adapter_model.safetensors to start from");
}

ResumePoint open_checkpoint(const std::string& folder) {
  if (const std::string foreign = foreign_checkpoint(folder); !foreign.empty())
    throw Error(ErrorKind::kConfig, foreign);
  io::check_manifest(folder);
  return {folder, read_training_state(folder)};
}

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += (text.empty() ? "" : "; ") + line;
  return text;
}

// The newest one in `folder` that is whole, of run `run_id` unless that is "".
std::optional<ResumePoint> newest(const std::string& folder, const std::string& run_id,
                                  std::vector<std::string>& warnings) {
  std::vector<std::string> damaged, foreign;
  for (const NumberedCheckpoint& checkpoint : list_checkpoints(folder)) {
    if (std::string what = foreign_checkpoint(checkpoint.path); !what.empty()) {
      foreign.push_back(std::move(what));
      continue;
    }
    try {
      ResumePoint point = open_checkpoint(checkpoint.path);
      if (!run_id.empty() && point.state.run_id != run_id) {
        warnings.push_back(checkpoint.path + " is of an earlier run and left alone");
        continue;
      }
      for (const std::string& line : damaged)
        warnings.push_back("DAMAGED checkpoint passed over, going on from " + point.folder + " instead: " + line);
      return point;
    } catch (const Error& error) {
      damaged.emplace_back(error.what());
    }
  }
  if (damaged.empty() && !foreign.empty()) throw Error(ErrorKind::kConfig, foreign.front());
  if (damaged.empty()) return std::nullopt;
  throw Error(folder, ": every checkpoint is damaged: ", joined(damaged),
              "; resume_from_checkpoint: none starts from the beginning");
}

}  // namespace

std::vector<NumberedCheckpoint> list_checkpoints(const std::string& folder) {
  std::vector<NumberedCheckpoint> found;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error))
    if (const auto step = step_of(entry->path().filename().string())) found.push_back({entry->path().string(), *step});
  std::ranges::sort(found, std::ranges::greater(), &NumberedCheckpoint::step);
  return found;
}

std::optional<ResumePoint> find_resume_point(const TrainConfig& config, const std::string& run_id,
                                             std::vector<std::string>& warnings) {
  const std::string& wanted = config.resume_from_checkpoint;
  if (wanted.empty()) return std::nullopt;
  if (wanted == "auto") {
    auto point = newest(config.output_dir, run_id, warnings);
    if (!point) warnings.push_back("no checkpoint to resume in " + config.output_dir + ": starting from the beginning");
    return point;
  }
  std::error_code error;
  if (!fs::is_directory(wanted, error))
    throw Error(ErrorKind::kConfig, "resume_from_checkpoint '", wanted, "': no such folder");
  if (list_checkpoints(wanted).empty()) return open_checkpoint(wanted);
  return newest(wanted, "", warnings);
}

bool check_same_run(const ResumePoint& point, const RunFacts& now, bool force, std::vector<std::string>& warnings) {
  const RunFacts& was = point.state.facts;
  std::vector<std::string> lines = differences(was.inputs, now.inputs);
  const std::vector<std::string> config = differences(was.config, now.config);
  lines.insert(lines.end(), config.begin(), config.end());
  if (!lines.empty() && !force)
    throw Error(ErrorKind::kConfig, point.folder, ": is of another run: ", joined(lines),
                "; force_resume: true goes on all the same");
  for (const std::string& line : lines) warnings.push_back("resumed with another " + line);
  for (const std::string& line : differences(was.machine, now.machine))
    warnings.push_back("the last bits may differ from those of a run that was not stopped: " + line);
  return lines.empty();
}

}  // namespace bezel::train
