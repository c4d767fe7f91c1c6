#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace bezel::report {

/// Of training by preference; NaN elsewhere.
struct Preference {
  double margin = std::numeric_limits<double>::quiet_NaN();    ///< of the rewards
  double accuracy = std::numeric_limits<double>::quiet_NaN();  ///< share of pairs whose chosen answer is rewarded more
};

/// What a run said at a step; means since the last report. What is not known is NaN.
struct StepRow {
  std::int64_t step = 0;
  double epoch = 0.0;
  double loss = 0.0;
  double learning_rate = 0.0;
  double grad_norm = 0.0;
  double tokens_per_s = 0.0;
  double memory_bytes = 0.0;  ///< the most so far
  Preference preference{};
};

struct EvalRow {
  std::int64_t step = 0;
  double loss = 0.0;
  Preference preference{};
};

struct TowerRow {
  std::string name;
  std::int64_t layers = 0;
  std::int64_t parameters = 0;
};

/// One clipped layer: the shares of its values outside each bound, which pass no gradient, in the order of
/// kBoundNames.
struct ClipRow {
  std::string tower;       ///< "vision", "audio"
  std::int64_t layer = 0;  ///< -1 for what belongs to no layer
  std::string projection;  ///< "self_attn.q_proj"
  std::array<double, 4> shares{};
};
inline constexpr const char* kBoundNames[] = {"input_min", "input_max", "output_min", "output_max"};

struct ClipTable {
  std::int64_t step = 0;
  std::vector<ClipRow> rows;
};

/// One layer of a mixture: the shares of its tokens that its experts got.
struct ExpertRow {
  std::int64_t layer = 0;
  std::vector<double> shares;
};

struct ExpertTable {
  std::int64_t step = 0;
  std::vector<ExpertRow> rows;
};

/// What the model answers to a prompt before and after training.
struct Prediction {
  std::string source;  ///< "train.jsonl:3"
  std::string prompt;
  std::string wanted;
  std::string before;
  std::string after;
};

struct Setting {
  std::string name;
  std::string value;
  bool is_default = false;
};

enum class RunState { kRunning, kDone, kStopped, kFailed };

/// All that a report of a run shows.
struct RunHistory {
  RunState state = RunState::kRunning;
  std::string model;       ///< the base's name
  std::string output_dir;  ///< where the adapter is
  std::string failure;     ///< why the run ended, for kFailed
  std::string started;     ///< local time in words
  double seconds = 0.0;    ///< since the start
  double seconds_left = 0.0;
  std::int64_t total_steps = 0;
  std::int64_t skipped_steps = 0;
  std::int64_t num_samples = 0;
  std::int64_t num_eval_samples = 0;
  std::vector<StepRow> steps;
  std::vector<EvalRow> evals;
  std::vector<TowerRow> towers;
  std::vector<ClipTable> clips;      ///< at the start, and at the end
  std::vector<ExpertTable> experts;  ///< likewise
  std::vector<Prediction> predictions;
  std::vector<std::string> notes;
  std::vector<Setting> settings;
  std::vector<Setting> environment;
};

}  // namespace bezel::report
