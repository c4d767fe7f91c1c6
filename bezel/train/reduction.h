#pragma once

#include <cstdint>
#include <initializer_list>
#include <vector>

#include "bezel/train/metrics.h"
#include "bezel/train/objective.h"
#include "bezel/train/optimizer.h"
#include "bezel/train/process_group.h"

/// Sums over the processes of a group, such that each of them has what one process with all batches would have. All are
/// collective; in a process alone they copy nothing.
namespace bezel::train {

/// Replaces each count by its sum.
void sum_counts(ProcessGroup& group, std::initializer_list<std::int64_t*> counts);

/// What a process knows of its micro-batches of an update.
struct StepSums {
  std::vector<double> losses{};  ///< of each, in turn
  Metrics metrics{};
};

/// What rounding to bfloat16 has left out of the gradients so far, by parameter: float32 on the CPU. Each process has
/// its own, and adds it to what it sends next ("error feedback", arXiv:1901.09847). Empty: gradients travel in float32.
using Residuals = NamedTensors;

/// Zeros.
Residuals make_residuals(const NamedTensors& parameters);

/// Sums gradients and metrics, and returns the sum of the losses in the order of the micro-batches; batch i is that of
/// rank i mod size. A gradient that one process has is defined on all afterwards. Where the loss is not finite the
/// gradients stay as they are, and so do `residuals`, those of `parameters` in their order or none.
double sum_step(ProcessGroup& group, const NamedTensors& parameters, StepSums& sums, Residuals& residuals);

/// One batch of an evaluation.
struct EvalBatch {
  std::int64_t weight = 0;
  EvalSums sums{};
  Metrics metrics{};
};

/// The batches of all processes, in the order that one process has them in.
std::vector<EvalBatch> gather_batches(ProcessGroup& group, const std::vector<EvalBatch>& mine);

double mean_of_ranks(ProcessGroup& group, double value);

}  // namespace bezel::train
