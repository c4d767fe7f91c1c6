#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bezel/data/processor_config.h"

namespace bezel::data {

/// Indices of the frames that the model sees of a video of `num_frames` at `fps` frames a second: index i of n is
/// i * num_frames / n, where n is video.num_frames or follows from video.fps, and is at most num_frames.
/// Reference: default_sample_indices_fn of transformers, which refuses a video of fewer than n frames.
std::vector<std::int64_t> choose_frames(std::int64_t num_frames, double fps, const VideoSettings& video);

/// "mm:ss", the text before frame `idx` of a video.
std::string frame_time(std::int64_t idx, double fps);

/// The images in `folder`, in the order of their numbers, as paths that begin with it. Names must be alike but for one
/// number at their end, and the numbers follow each other. Throws Error starting with `source` on a gap, a number
/// twice, other names, other files and an empty folder. Names that begin with a dot are skipped.
std::vector<std::string> frame_files(const std::string& folder, std::string_view source);

}  // namespace bezel::data
