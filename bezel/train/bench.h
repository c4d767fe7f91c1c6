#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "bezel/data/batch.h"
#include "bezel/data/dataset.h"
#include "bezel/gemma4/model.h"
#include "bezel/lora/targets.h"
#include "bezel/train/residency.h"

namespace bezel::train {

/// What timed training steps gave.
struct BenchResult {
  double start_s = 0.0;                   ///< from the start of the process until the first forward pass began
  std::vector<double> step_s;             ///< forward, backward and update of each step
  std::vector<double> losses;             ///< of each step, before its update
  double tokens_per_s = 0.0;              ///< real tokens over the median step, the first one left out
  std::int64_t peak_bytes = 0;            ///< most resident memory of the process, mapped weights included
  std::int64_t peak_anonymous_bytes = 0;  ///< most of it that is no mapped file, sampled every 10 ms
};

/// Token ids for timing: `tokens` of them sampled from the vocabulary, the last `label_tokens` labelled.
data::RawInputs synthetic_inputs(const gemma4::ModelConfig& config, std::int64_t tokens, std::int64_t label_tokens,
                                 std::uint64_t seed);

/// The rows of `raw` without their padding, with their media out of `whole`, the batch that they make. Throws Error
/// without labels, and where a row's placeholders are not those of whole items.
std::vector<data::Sample> row_samples(const data::RawInputs& raw, const data::Batch& whole);

/// Samples as packed rows of at most `row_tokens`, each a micro-batch; with `shares` what samples of one begin alike by
/// is there once, and those that begin alike come together.
std::vector<data::Batch> packed_batches(std::vector<data::Sample> samples, std::int64_t row_tokens, bool shares);

/// Times `steps` AdamW steps of rate 1e-4, each over all micro-batches, with the evictions of a run or fewer.
BenchResult bench_training(gemma4::Model& model, const lora::Selection& selection, std::span<const data::Batch> batches,
                           std::int64_t steps, EvictionOptions eviction = {});

}  // namespace bezel::train
