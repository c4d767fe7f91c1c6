#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "bezel/gemma4/model.h"
#include "bezel/gemma4/parts.h"
#include "bezel/lora/targets.h"
#include "bezel/quant/options.h"
#include "bezel/train/batch_plan.h"
#include "bezel/train/config.h"

namespace bezel::train {

/// What one micro-batch looks like, at most.
struct StepSize {
  std::int64_t tokens = 0;                      ///< of all its rows
  input::PerKind<std::int64_t> encoder_rows{};  ///< patches of all its images and videos, frames of all its audio clips
};

/// About how many bytes the layers of `parts` keep for the backward pass of such a micro-batch when nothing is
/// recomputed; an upper bound for text, since layers that compute labelled rows only keep less. With `recompute` layers
/// keep their inputs only, and one of them at a time all of it.
std::int64_t activation_bytes(std::span<const gemma4::Part> parts, const StepSize& size, std::int64_t element_bytes,
                              bool recompute = false);

/// An upper bound of a run's micro-batches, from the lengths of its samples. Rows that are packed may be as long as
/// max_seq_length, and hold nothing but media where any sample has them.
StepSize largest_micro_batch(const TrainConfig& config, const BatchPlan& batches);

/// Whether the layers are recomputed in the backward pass: as configured, or where the largest micro-batch would
/// otherwise take more than half of the memory that is left, which then is a line in `notes`.
bool wants_recompute(const TrainConfig& config, const gemma4::ModelConfig& model, const BatchPlan& batches,
                     torch::Device device, std::vector<std::string>& notes);

/// A training run as far as its memory and work depend on it.
struct RunShape {
  quant::StorageOptions storage{};
  input::PerKind<bool> media{};  ///< kinds whose encoder is read
  bool recompute = false;
  StepSize largest{};               ///< the largest micro-batch
  bool on_device = false;           ///< every matrix moves to a device, which reads none of them from a file
  bool embeddings_on_host = false;  ///< but the per-layer embeddings
};

/// About what a run takes in memory, in bytes.
struct MemoryNeed {
  std::int64_t process = 0;      ///< program, LibTorch and what its threads hold
  std::int64_t weights = 0;      ///< frozen matrices as they are kept; dense ones are pages of the checkpoint's files
  std::int64_t adapters = 0;     ///< A and B, their gradients and both moments, in float32; a device's copies of them
  std::int64_t activations = 0;  ///< kept for the backward pass; an upper bound
  std::int64_t loss = 0;         ///< the logits of a few rows
  std::int64_t host_tables = 0;  ///< of a run on a device: embeddings that stay in the host's memory

  /// What must fit the device.
  std::int64_t resident() const { return weights + adapters + activations + loss; }
  std::int64_t total() const { return process + resident(); }
};

/// `model` needs no weights: its module tree and dtype are enough. Tables that are read row by row, and towers that no
/// sample has data for, are left out. Codes that the checkpoint itself holds are not known here.
MemoryNeed memory_need(gemma4::Model& model, std::int64_t trainable_parameters, const RunShape& run);

/// What a stretch of training goes through, padding left out.
struct Work {
  std::int64_t samples = 0;
  std::int64_t tokens = 0;
  std::int64_t label_tokens = 0;
  input::PerKind<std::int64_t> encoder_rows{};  ///< image patches, audio frames after subsampling
};

/// Floating-point operations of the matrix products and of attention, forward, backward and, with `recompute`, forward
/// again. Layers above the last one with keys of its own count labelled tokens only. `model` needs no weights.
double training_flops(gemma4::Model& model, const lora::Selection& selection, const Work& work, bool recompute);

/// Floating-point operations a second of a product of a frozen matrix as it is computed here: 512 rows in `dtype`, for
/// a fifth of a second.
double product_flops_per_s(torch::ScalarType dtype);

}  // namespace bezel::train
