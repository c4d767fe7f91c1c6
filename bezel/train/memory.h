#pragma once

#include <cstdint>

#include "bezel/gemma4/config.h"

namespace bezel::train {

/// Memory that the system can give this process, in bytes: MemAvailable, and what the control group has left.
std::int64_t available_memory_bytes();

/// What one micro-batch looks like, at most.
struct StepSize {
  std::int64_t tokens = 0;         ///< of all its rows
  std::int64_t image_patches = 0;  ///< of all its pictures
  std::int64_t audio_frames = 0;   ///< of all its recordings, after subsampling
};

/// About how many bytes the layers keep for the backward pass of such a micro-batch when nothing is recomputed; an
/// upper bound for text, since layers that compute labelled rows only keep less. With `recompute` layers keep their
/// inputs only, and one of them at a time all of it.
std::int64_t activation_bytes(const gemma4::ModelConfig& config, const StepSize& size, std::int64_t element_bytes,
                              bool recompute = false);

}  // namespace bezel::train
