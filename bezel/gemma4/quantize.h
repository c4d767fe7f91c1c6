#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bezel/io/checkpoint_writer.h"
#include "bezel/quant/options.h"

namespace bezel::gemma4 {

struct QuantizeReport {
  std::int64_t matrices = 0;      ///< that were quantized
  std::int64_t bytes_before = 0;  ///< of all tensors
  std::int64_t bytes_after = 0;
  std::vector<std::string> warnings;  ///< of the model that was loaded
};

/// Writes the checkpoint `folder` to the new folder `output` with its linear layers in NF4 or int8, as transformers +
/// bitsandbytes read it: key layout kept, codes and scales beside each other, quantization_config in config.json with
/// the modules that stay dense. Embeddings, head, routers, norms, convolutions, clip bounds and stacked experts stay as
/// they are; so do tensors of layers that the model does not use. With `experts` stacks are quantized too, under
/// `….experts.gate_up_proj.weight` and so on: only Bezel reads that, and quant_method says so ("bezel"). Holds one
/// matrix at a time; see io::write_checkpoint for shards and files. Throws Error (kConfig) when `output` exists or
/// there are no experts, Error when the checkpoint holds codes already or does not fit its config.
QuantizeReport quantize_checkpoint(const std::string& folder, const std::string& output,
                                   const quant::StorageOptions& options, bool experts = false,
                                   std::size_t max_shard_bytes = io::kMaxShardBytes);

}  // namespace bezel::gemma4
