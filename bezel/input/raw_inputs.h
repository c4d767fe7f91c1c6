#pragma once

#include <cstdint>
#include <string>

#include <torch/types.h>

#include "bezel/input/batch.h"

namespace bezel::input {

/// Tensors as Hugging Face processors give them; optional ones may be undefined.
struct RawInputs {
  torch::Tensor input_ids;            ///< int64 [B, T]
  torch::Tensor labels;               ///< int64 [B, T], kIgnoreLabel where no loss falls
  torch::Tensor attention_mask;       ///< int64 or bool [B, T]
  torch::Tensor mm_token_type_ids;    ///< int64 [B, T]
  torch::Tensor pixel_values;         ///< float32 [I, P, 3 * patch_size^2], unified [I, M, 3 * model_patch_size^2]
  torch::Tensor image_position_ids;   ///< int64 [I, P, 2], (-1, -1) on padding
  torch::Tensor pixel_values_videos;  ///< float32 [N, P, 3 * patch_size^2], N frames of all videos
  torch::Tensor video_position_ids;   ///< int64 [N, P, 2], (-1, -1) on padding
  torch::Tensor input_features;       ///< float32 [A, F, 128], unified [A, F, samples of a frame]
  torch::Tensor input_features_mask;  ///< bool [A, F]
};

/// Reads `in.input_ids`, `in.labels`, … from a safetensors file; those that it lacks stay undefined. Throws Error when
/// the file has no `in.input_ids`.
RawInputs read_raw_inputs(const std::string& path);

/// Frames of mel bands that the audio tower makes one soft token of.
inline constexpr std::int64_t kMelFramesPerToken = 4;

/// Builds a Batch on the CPU from processor tensors. `pooling` is vision_config.pooling_kernel_size, and 1 for patches
/// of the size of a soft token; `frames_per_token`, a power of 2, is how many rows of input_features make one. Throws
/// Error when shapes disagree, or placeholders and soft tokens do not match in number.
Batch make_batch(const RawInputs& raw, const MediaTokenIds& ids, std::int64_t pooling,
                 std::int64_t frames_per_token = kMelFramesPerToken);

}  // namespace bezel::input
