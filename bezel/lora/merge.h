#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include <torch/nn/module.h>

#include "bezel/io/checkpoint_writer.h"
#include "bezel/nn/linear.h"

namespace bezel::lora {

/// base + scale * B A, of DoRA with its rows scaled to their magnitudes, in float32 and rounded to `dtype` once.
/// base [out, in] of any floating dtype, or a stack of experts [E, out, in] with the adapter of one. Works in slices.
torch::Tensor add_update(const torch::Tensor& base, const nn::Adapter& adapter, torch::ScalarType dtype);

/// The same of some rows of a matrix, from `begin` on: base [N, in] of any floating dtype -> float32.
torch::Tensor merged_rows(const torch::Tensor& base, const nn::Adapter& adapter, std::int64_t begin);

struct MergeOptions {
  std::optional<torch::ScalarType> dtype{};         ///< of every floating tensor; nothing: as it was stored
  torch::ScalarType from_codes = torch::kBFloat16;  ///< where `dtype` is not given: of matrices that are dequantized
  bool untied = false;                              ///< the head is a matrix of its own, whatever config.json says
  bool requantize = false;  ///< matrices that were quantized are quantized again by the same scheme
  std::size_t max_shard_bytes = io::kMaxShardBytes;
  std::map<std::string, std::string> files{};  ///< name -> text, in place of the base's: those of a tokenizer
};

/// Quantization error over some matrices: Frobenius norms.
struct CodingError {
  double error = 0.0;   ///< of (matrix from codes) - matrix
  double matrix = 0.0;  ///< of the matrices W + scale * B A
  double update = 0.0;  ///< of their scale * B A
};

struct MergeReport {
  std::int64_t merged = 0;       ///< matrices that an adapter went into
  bool untied = false;           ///< embeddings and head, which were tied, are trained apart: the head is its own now
  std::int64_t from_codes = 0;   ///< matrices that were quantized and are dense now
  std::int64_t requantized = 0;  ///< of `merged`, quantized ones again
  std::int64_t dropped = 0;      ///< codes of layers that the model does not use, which no dense form was made of
  CodingError coding;            ///< of the requantized ones
  std::string worst;             ///< the one with the largest error beside its own size
  double worst_error = 0.0;      ///< relative
  io::WrittenCheckpoint written;
};

/// Writes the checkpoint that `model` was loaded from to the new folder `output`, with the adapters that are attached
/// to the model inside its matrices. A head that was tied to the embeddings, and that training parted from them, is
/// written by itself, with tie_word_embeddings off; PEFT's merge_and_unload would change both. Names and key layout
/// stay; so do clip bounds, and since adapters are inside the clamps, merging changes no function. Holds one matrix at
/// a time. From a quantized checkpoint every quantized matrix is stored dense and quantization_config goes, unless
/// requantize. Tables that the model has more rows of (ModelFiles::num_tokens) are written with them, and config.json
/// says so. Throws Error when a merged matrix is not finite, and for codes that requantize cannot write; Error
/// (kConfig) when `output` exists, or requantize is asked for a checkpoint without codes or together with a dtype.
MergeReport merge_checkpoint(torch::nn::Module& model, const io::Checkpoint& checkpoint, const std::string& output,
                             const MergeOptions& options);

}  // namespace bezel::lora
