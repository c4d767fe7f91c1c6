#pragma once

#include <cstdint>
#include <vector>

#include "bezel/data/batch.h"
#include "bezel/gemma4/model.h"

namespace bezel::generate {

/// What timed decoding gave.
struct DecodeTimes {
  std::int64_t prompt_tokens = 0;
  double prefill_s = 0.0;
  std::vector<double> token_s;       ///< of each token after the prompt
  double median_s = 0.0;             ///< of them, the first left out
  std::int64_t bytes_per_token = 0;  ///< weights that each of them reads
  double memory_bytes_per_s = 0.0;   ///< of plain reading with all threads, measured in the same run

  double tokens_per_s() const { return 1.0 / median_s; }
  double bytes_per_s() const { return static_cast<double>(bytes_per_token) / median_s; }
};

/// Reads `prompt` (one row) and then times `count` >= 1 greedy tokens.
DecodeTimes bench_decoding(const gemma4::Model& model, const input::Batch& prompt, std::int64_t count);

/// Bytes of weights that one token reads: the decoder's matrices as stored, of experts only the share that is chosen,
/// adapters and the head. Embedding rows and norms, which are small, are left out.
std::int64_t weight_bytes_per_token(const gemma4::Model& model);

}  // namespace bezel::generate
