#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bezel/io/checkpoint_writer.h"
#include "bezel/io/key_map.h"

namespace bezel::gemma4 {

/// What to make of an Orbax checkpoint.
struct OrbaxOptions {
  std::string model;  ///< the checkpoint's folder
  /// Folder with tokenizer.json and the other small files of a Hugging Face checkpoint; "": the plan is checked only,
  /// not written.
  std::string tokenizer;
  std::string config;                  ///< config.json of the model; "": made from the shapes
  io::DType dtype = io::DType::kBF16;  ///< float32 or bfloat16
  io::KeyLayout layout = io::KeyLayout::kNested;
  std::size_t max_shard_bytes = io::kMaxShardBytes;
};

/// A checkpoint of Hugging Face's form that io::write_checkpoint can write, and what it is made of.
struct OrbaxPlan {
  io::NewCheckpoint checkpoint;
  std::int64_t arrays = 0;
  std::vector<std::string> unused;  ///< names of arrays that no tensor is made of
  bool rounds = false;              ///< float32 arrays become bfloat16, to nearest even
};

/// Reads the descriptions of all arrays and plans the tensors; large values are read when the plan is written: tables
/// in pieces, other arrays one at a time. Throws Error naming the array, key or file when something is damaged or
/// missing, and for an array that is not used although it is a scale other than 1.
OrbaxPlan plan_orbax(const OrbaxOptions& options);

}  // namespace bezel::gemma4
