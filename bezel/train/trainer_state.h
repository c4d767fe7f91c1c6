#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bezel/io/json.h"
#include "bezel/train/metrics.h"

namespace bezel::train {

/// Sums over the steps since the last report.
struct ReportWindow {
  double loss = 0.0;
  double grad_norm = 0.0;
  double learning_rate = 0.0;  ///< of the last step
  double seconds = 0.0;
  std::int64_t steps = 0;  ///< that were not skipped
  std::int64_t tokens = 0;
  Metrics metrics{};
};

struct BestEval {
  double value = 0.0;     ///< of the run's metric (BestMetric)
  std::int64_t step = 0;  ///< steps done when it was measured
};

/// All that a trainer remembers between two steps, besides tensors and random numbers: enough to go on exactly.
struct TrainerState {
  std::int64_t steps_done = 0;  ///< with seed and number of samples, this is the position in the data
  std::int64_t skipped_steps = 0;
  std::int64_t bad_in_a_row = 0;
  std::int64_t num_tokens = 0;
  double loss_sum = 0.0;  ///< over the steps that were not skipped
  double first_loss = 0.0;
  double last_loss = 0.0;
  double seconds = 0.0;  ///< of training, the sessions before this one included
  ReportWindow window;
  std::optional<BestEval> best;
  std::int64_t evals_without_gain = 0;              ///< evaluations since one that counts as better (StoppingOptions)
  std::optional<std::vector<std::string>> audited;  ///< adapter tensors that were seen to train; nothing: all were
};

io::Json to_json(const TrainerState& state);
/// Throws Error naming the key when one is missing or of another type.
TrainerState read_trainer_state(const io::JsonView& json);

}  // namespace bezel::train
