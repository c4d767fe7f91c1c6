#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <torch/types.h>

namespace bezel::data {

/// Label value of positions that carry no loss (transformers' ignore index).
inline constexpr std::int64_t kIgnoreLabel = -100;

/// One picture as the vision tower takes it: its real patches only, no padding.
struct ImagePatches {
  torch::Tensor patches;     ///< float32 [P, 3 * patch_size^2], values 0..1, (row, column, channel) order
  torch::Tensor positions;   ///< int64 [P, 2], (x, y) of each patch
  torch::Tensor pool_index;  ///< int64 [P], soft token that each patch is averaged into
  std::int64_t num_soft_tokens = 0;
  std::int64_t max_position = 0;  ///< largest x or y
};

/// One recording as the audio tower takes it.
struct AudioFrames {
  torch::Tensor features;   ///< float32 [F, 128], log-mel; padding frames are zero
  torch::Tensor mask;       ///< bool [F], true on real frames
  torch::Tensor soft_rows;  ///< int64 [M], rows after subsampling that are real soft tokens
};

/// All that a training step sees. What must be known on the host (counts, positions) is computed while
/// the batch is built, so that no device tensor is read back.
/// Letters: B rows, T tokens a row, L label positions, Q the most of them in one row, Ni and Na soft tokens of all
/// images and of all recordings.
struct Batch {
  torch::Tensor input_ids;          ///< int64 [B, T]
  torch::Tensor attention_mask;     ///< bool [B, T], true on real tokens, which padding only follows or precedes
  torch::Tensor mm_token_type_ids;  ///< int64 [B, T], 0 text, 1 image, 2 video, 3 audio
  torch::Tensor sample_first;       ///< int64 [B, T], where in its row the sample of each position begins; undefined:
                                    ///< each row is one sample
  torch::Tensor label_rows;         ///< int64 [L], flat index into B*T of the positions that predict a label
  torch::Tensor label_ids;          ///< int64 [L], the token each of them should predict
  torch::Tensor label_positions;    ///< int64 [B, Q], the positions of label_rows in each row; short rows repeat 0
  torch::Tensor label_slots;        ///< int64 [L], flat index into B*Q of each of label_rows
  torch::Tensor media_rows;         ///< int64 [.], flat positions of every placeholder (image, video, audio)
  torch::Tensor image_rows;         ///< int64 [Ni], flat positions that image soft tokens fill, in order
  torch::Tensor audio_rows;         ///< int64 [Na], flat positions that audio soft tokens fill, in order
  std::vector<ImagePatches> images;
  std::vector<AudioFrames> recordings;
  bool has_padding = false;     ///< some position of attention_mask is false
  std::int64_t num_tokens = 0;  ///< real tokens
  /// Labels that were dropped because padding stands where they would be predicted: no key is seen there.
  std::int64_t num_unpredictable = 0;

  /// Fills label_positions and label_slots from label_rows, on the CPU.
  void index_labels();

  std::int64_t num_labels() const { return label_ids.defined() ? label_ids.size(0) : 0; }
  /// Of all tensors.
  std::int64_t num_bytes() const;
  /// The same batch with every tensor on `device`.
  Batch to(torch::Device device) const;
};

/// Token ids that mark where soft tokens go (config.json: image_token_id, video_token_id, audio_token_id).
struct MediaTokenIds {
  std::int64_t image = 258880;
  std::int64_t video = 258884;
  std::int64_t audio = 258881;
};

/// Tensors as Hugging Face processors give them; optional ones may be undefined.
struct RawInputs {
  torch::Tensor input_ids;            ///< int64 [B, T]
  torch::Tensor labels;               ///< int64 [B, T], kIgnoreLabel where no loss falls
  torch::Tensor attention_mask;       ///< int64 or bool [B, T]
  torch::Tensor mm_token_type_ids;    ///< int64 [B, T]
  torch::Tensor pixel_values;         ///< float32 [I, P, 3 * patch_size^2]
  torch::Tensor image_position_ids;   ///< int64 [I, P, 2], (-1, -1) on padding
  torch::Tensor input_features;       ///< float32 [A, F, 128]
  torch::Tensor input_features_mask;  ///< bool [A, F]
};

/// Reads `in.input_ids`, `in.labels`, … from a safetensors file; those that it lacks stay undefined. Throws Error when
/// the file has no `in.input_ids`.
RawInputs read_raw_inputs(const std::string& path);

/// Builds a Batch on the CPU from processor tensors. `pooling` is vision_config.pooling_kernel_size.
/// Throws Error when shapes disagree, or placeholders and soft tokens do not match in number.
Batch make_batch(const RawInputs& raw, const MediaTokenIds& ids, std::int64_t pooling);

}  // namespace bezel::data
