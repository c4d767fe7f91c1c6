#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bezel/io/json.h"
#include "bezel/report/data_check.h"
#include "bezel/train/batch_plan.h"
#include "bezel/train/config.h"
#include "bezel/train/cost_model.h"

namespace bezel::report {

/// What a run would take, known without its weights.
struct RunEstimate {
  std::vector<lora::TowerCount> towers{};
  std::int64_t num_train = 0;
  std::int64_t num_eval = 0;
  bool packs = false;
  std::int64_t num_rows = 0;  ///< of an epoch; as many as samples without packing
  std::int64_t steps_per_epoch = 0;
  std::int64_t total_steps = 0;
  bool shares_prefixes = false;  ///< what samples of a step begin alike by is computed once
  double shared_tokens = 0.0;    ///< share of the tokens that this saves, about; where it is off, that it would save
  bool recompute = false;
  train::MemoryNeed memory{};
  std::int64_t available_bytes = 0;  ///< of memory, now
  bool on_device = false;            ///< config.device is none of the host's
  train::Work work{};                ///< of all steps, where prefixes are shared less what that saves
  double flops = 0.0;                ///< of all steps
  double flops_per_s = 0.0;          ///< of a matrix product on this CPU, just measured
  std::vector<std::string> notes{};

  /// If all of it ran as fast as that product, which it does not.
  double least_seconds() const { return flops / flops_per_s; }
};

/// `check` is the check of the training samples. Throws Error where the run would refuse to begin: names that match no
/// layer, towers that see no data, no update that would change the adapter.
RunEstimate estimate_run(const train::TrainConfig& config, const train::BatchPlan& batches, const DataCheck& check);

/// Of a run on a device also what must fit there, and what stays in the host's memory.
io::Json memory_json(const train::MemoryNeed& need, bool on_device = false);

}  // namespace bezel::report
