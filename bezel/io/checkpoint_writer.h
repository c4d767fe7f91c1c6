#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "bezel/io/checkpoint.h"
#include "bezel/io/json.h"
#include "bezel/io/safetensors.h"

namespace bezel::io {

/// Tensors of a new checkpoint that are made together and written to one shard: a matrix, or its codes and scales.
struct CheckpointPart {
  std::vector<TensorSpec> tensors;
  std::function<void(TensorSink&)> write;  ///< puts each of them; called once, when their turn has come

  std::size_t size_bytes() const;
};

/// A stored tensor as it is, under `name`. Gives the source's pages back once it is written.
CheckpointPart copied_part(const Checkpoint::Entry& entry, std::string name);

/// transformers' default.
inline constexpr std::size_t kMaxShardBytes = 5'000'000'000;

/// Says what a checkpoint was made of; stays behind when another one is made of it.
inline constexpr const char* kOriginFile = "converted_from.json";

/// A checkpoint that is made from another one, tensor by tensor.
struct NewCheckpoint {
  std::string source;  ///< folder whose tokenizer, processor and other small files go with it
  Json config{};       ///< config.json
  std::vector<CheckpointPart> parts{};
  Json origin{};                                 ///< text of kOriginFile; null: none
  std::size_t max_shard_bytes = kMaxShardBytes;  ///< a part that is larger gets a shard of its own
  std::map<std::string, std::string> files{};    ///< name -> text, in place of the source's
};

/// Says in a config.json that the head is a matrix of its own.
void untie_head(Json& config);

struct WrittenCheckpoint {
  std::int64_t files = 0;  ///< that hold weights
  std::int64_t bytes = 0;  ///< of all tensors
};

/// Writes the new folder `output`, whole or not at all: model.safetensors, or where the tensors take more than
/// max_shard_bytes, shards and model.safetensors.index.json as transformers names them. Holds one part in memory at a
/// time. Of the source's files everything is copied but weights, config.json and kOriginFile; folders are not. Throws
/// Error (kConfig) when `output` exists, Error (kIo) when writing fails.
WrittenCheckpoint write_checkpoint(const NewCheckpoint& checkpoint, const std::string& output);

}  // namespace bezel::io
