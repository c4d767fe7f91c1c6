#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include <torch/types.h>

#include "bezel/input/media_kind.h"
#include "bezel/input/preference_rows.h"

/// What a model reads. Stands below `data`, which makes it, and `gemma4`, which reads it.
namespace bezel::input {

/// Label value of positions that carry no loss (transformers' ignore index).
inline constexpr std::int64_t kIgnoreLabel = -100;

/// One image, frame of a video or audio clip as its encoder reads it.
///           features                          layout                      soft_index
/// image     float32 [P, 3 * patch_size^2],    int64 [P, 2], (x, y)        int64 [P], the soft token that
///           its real patches, 0..1, by row,   of each patch               each patch is averaged into
///           column and channel
/// video     the same of one frame, or uint8   as of an image              as of an image
///           that is divided by 255
/// audio     float32 [F, 128], log-mel         bool [F], true              int64 [M], the rows after
///           frames; zero on padding           on real frames              subsampling that are soft tokens
/// In the unified model a patch is a soft token, and so is a frame: of 640 samples, not of mel bands.
struct Media {
  MediaKind kind = MediaKind::kImage;
  torch::Tensor features{}, layout{}, soft_index{};
  std::int64_t num_soft_tokens = 0;
  std::uint64_t key = 0;  ///< of its random numbers, see sample_key.h
};

/// All that a training step sees. What must be known on the host (counts, positions) is computed while
/// the batch is built, so that no device tensor is read back.
/// Letters: B rows, T tokens a row, L label positions, Q the most of them in one row, M soft tokens of all media.
struct Batch {
  torch::Tensor input_ids;          ///< int64 [B, T]
  torch::Tensor attention_mask;     ///< bool [B, T], true on real tokens, which padding only follows or precedes
  torch::Tensor mm_token_type_ids;  ///< int64 [B, T], 0 on text, else MediaWords::token_type
  torch::Tensor row_keys;           ///< int64 [B, T], of each position's random numbers; undefined: by position
  torch::Tensor segment_start;      ///< int64 [B, T], where in its row the segment of each position begins: its sample,
                                    ///< or what of it others do not share; undefined: each row is one sample
  torch::Tensor label_flat_index;   ///< int64 [L], flat index into B*T of the positions that predict a label
  torch::Tensor label_ids;          ///< int64 [L], the token each of them should predict
  torch::Tensor query_positions;  ///< int64 [B, Q], the positions of label_flat_index in each row; short rows repeat 0
  torch::Tensor label_query_index;  ///< int64 [L], flat index into B*Q of each of label_flat_index
  torch::Tensor placeholder_rows;   ///< int64 [.], flat positions of every placeholder, filled or not
  torch::Tensor soft_rows;          ///< int64 [M], flat positions that the soft tokens of `media` fill, item by item
  std::vector<Media> media;         ///< in the order of their placeholders
  std::shared_ptr<const PreferenceRows> preferences;  ///< null: supervised samples
  /// int64 [A, B, T], where in its row the segments begin that come before segment_start in the sample of each
  /// position, in their order, then empty ones: prefixes that samples share. Undefined: there are none. Such rows have
  /// no padding.
  torch::Tensor prefix_begin;
  torch::Tensor prefix_end;              ///< int64 [A, B, T], where these segments end
  std::shared_ptr<const Batch> on_host;  ///< of a batch that moved to a device: what it was before
  bool has_padding = false;              ///< some position of attention_mask is false
  std::int64_t num_tokens = 0;  ///< real tokens of all samples; those of a shared prefix count for each of them
  /// Labels that were dropped because padding is at the position that predicts them, which sees no key.
  std::int64_t num_unpredictable = 0;

  /// Fills query_positions and label_query_index from label_flat_index, on the CPU.
  void index_labels();

  std::int64_t num_labels() const { return label_ids.defined() ? label_ids.size(0) : 0; }
  /// Keys of all B*T positions' random numbers, int64 [B*T].
  torch::Tensor flat_row_keys() const;
  /// Kinds of which there is an item.
  PerKind<bool> kinds() const;
  /// Of all tensors.
  std::int64_t num_bytes() const;
  /// The same batch with every tensor on `device`, which gets them in one copy.
  Batch to(torch::Device device) const;
};

/// Soft tokens of `media`, by kind.
PerKind<std::int64_t> soft_tokens(const std::vector<Media>& media);

}  // namespace bezel::input
