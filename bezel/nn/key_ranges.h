#pragma once

#include <memory>

#include <torch/types.h>

namespace bezel::nn {

/// Which keys each of Q queries sees: those from `first` up to, not including, `end`; empty where end <= first. Both
/// tensors undefined: every query sees every key. Where samples share prefixes, a query also sees a run of keys of each
/// segment before its own.
struct KeyRanges {
  torch::Tensor first = {};  ///< int64 [B or 1, Q]
  torch::Tensor end = {};    ///< int64 [B or 1, Q]
  bool causal = false;  ///< the ranges are [0, q + 1) for query q = 0, 1, … of as many keys, which needs no tensor
  torch::Tensor prefix_first = {};  ///< int64 [A, B, Q], as `first`, of the segments before; undefined: there are none
  torch::Tensor prefix_end = {};    ///< int64 [A, B, Q]

  /// What attention on a device reads in their place, made by the first layer that asks.
  struct Made {
    torch::Tensor bias;     // see additive() in attention.cpp
    torch::Tensor keyless;  // bool [B or 1, 1, Q, 1], queries that see no key
  };
  std::shared_ptr<Made> made = {};  ///< null: nothing is kept
  bool may_lack_keys = true;        ///< false: every query sees a key
};

/// What the ranges of a decoder layer follow from.
struct MaskSpec {
  std::int64_t num_keys = 0;          ///< S: num_past, then the T of this call
  std::int64_t num_past = 0;          ///< keys before this call's; only for one row, without padding and packing
  std::int64_t window = 0;            ///< a query sees itself and the window - 1 keys before; 0: all before
  torch::Tensor attention_mask = {};  ///< bool [B, T], false on padding, which is at the ends of a row; undefined: none
  torch::Tensor segment_start = {};   ///< int64 [B, T], where the sample of each position begins; undefined: at 0
  torch::Tensor image_run_end = {};   ///< int64 [B, T] of image_run_ends, in layers that see them whole; or undefined
  torch::Tensor image_run_begin = {};  ///< int64 [B, T] of image_run_begins, where no window cuts them; or undefined
  torch::Tensor queries = {};          ///< int64 [B, Q], the query positions; undefined: all T
  torch::Tensor prefix_begin =
      {};                         ///< int64 [A, B, T], where segments before that of each position begin, in the order
                                  ///< of their positions (input::Batch::prefix_begin); undefined: there are none
  torch::Tensor prefix_end = {};  ///< int64 [A, B, T], where they end; goes with segment_start, not with padding
};

/// Query q sees key k of its own sample where k > q - window, and k <= q or both are in one image, and k is no
/// padding. Distances are those of positions in the sample, so that a window cuts the segments before as if the sample
/// had a row of its own. With image_run_begin it also sees the begin of its image, whatever the window. Tensors of the
/// rule, where there are any, are on `device`. References: create_masks_for_vision_model, and create_masks_for_generate
/// of the unified model.
KeyRanges key_ranges(const MaskSpec& rule, torch::Device device);

/// The same ranges with both tensors defined, int64 [B or 1, Q].
KeyRanges with_tensors(const KeyRanges& ranges, std::int64_t num_queries, std::int64_t num_keys, torch::Device device);

/// Bool [B or 1, Q, S], true where the query sees the key; undefined where every query sees every key.
torch::Tensor dense_mask(const KeyRanges& ranges, std::int64_t num_queries, std::int64_t num_keys,
                         torch::Device device);

/// For each position the end of the run of image or video tokens that it is in, 0 outside. token_types int64 [B, T];
/// a run ends with its sample (`segment_start` as in MaskSpec).
torch::Tensor image_run_ends(const torch::Tensor& token_types, const torch::Tensor& segment_start = {});

/// The begins of the runs that `ends` [B, T], from image_run_ends, has the ends of; T outside of runs.
torch::Tensor image_run_begins(const torch::Tensor& ends);

}  // namespace bezel::nn
