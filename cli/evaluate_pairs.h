#pragma once

#include <string>

#include "bezel/io/json.h"
#include "bezel/train/evaluate_pairs.h"

namespace bezel::cli {

/// What `bezel evaluate --pairs` says: "pairs", "base" and with an adapter "adapter", "reward".
io::Json pairs_json(const train::PairEvaluation& evaluation, bool adapted, std::size_t left_out);

/// The same in words, printed.
void print_pairs(const io::Json& summary);

/// Writes one JSON object a pair, wholly or not at all. Throws Error (kIo).
void write_pairs(const std::string& path, const train::PairEvaluation& evaluation);

}  // namespace bezel::cli
