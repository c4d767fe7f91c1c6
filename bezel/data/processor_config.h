#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "bezel/gemma4/config.h"
#include "bezel/input/media_kind.h"
#include "bezel/input/media_size.h"

namespace bezel::data {

/// How images become patches (image_processor of processor_config.json).
struct ImageSettings {
  std::int64_t patch_size = 16;        ///< pixels along one side of a patch; unified: of a soft token
  std::int64_t max_soft_tokens = 280;  ///< budget of one image: 70, 140, 280, 560 or 1120
  std::int64_t pooling = 3;            ///< patches along one side of a soft token
  double rescale = 1.0 / 255.0;        ///< factor from bytes to the values of a patch
};

/// How audio clips become log-mel frames (feature_extractor of processor_config.json). The framing itself (16 kHz,
/// windows of 320 samples every 160, 512-point transform, 128 mel bands) is fixed by the audio tower. The unified model
/// reads samples as they are.
struct AudioSettings {
  std::int64_t frame_samples = 0;                      ///< unified: samples of a soft token; 0: log-mel frames
  double min_frequency = 0.0;                          ///< Hz, lower edge of the mel filters
  double max_frequency = 8000.0;                       ///< Hz, upper edge
  double mel_floor = 1e-3;                             ///< added before the logarithm
  double input_scale_factor = 1.0;                     ///< multiplies the samples
  std::int64_t max_samples = input::kMaxAudioSamples;  ///< at 16 kHz; the rest of an audio clip is not read
};

/// How videos become frames (video_processor of processor_config.json). Frames are cut into patches as images are.
struct VideoSettings {
  ImageSettings frame{.max_soft_tokens = 70};
  std::int64_t num_frames = 32;  ///< of one video, where it has as many
  std::optional<double> fps{};   ///< frames for each second in place of num_frames
  bool takes_all = false;        ///< every frame (do_sample_frames: false)
};

struct MediaSettings {
  ImageSettings image;
  AudioSettings audio;
  VideoSettings video;

  /// The most soft tokens that one item of a kind makes.
  std::int64_t max_soft_tokens(input::MediaKind kind) const;
  /// Rows that the encoder of a kind computes for each soft token: patches, frames after subsampling.
  std::int64_t rows_per_soft_token(input::MediaKind kind) const;
};

/// Settings of a run in place of the checkpoint's; at most one of the first two.
struct VideoChoice {
  std::optional<std::int64_t> num_frames{};   ///< of each video
  std::optional<double> fps{};                ///< frames of each second
  std::optional<std::int64_t> soft_tokens{};  ///< budget of a frame: 70, 140, 280, 560 or 1120
};

/// Puts what is given into `settings`. Throws Error (kConfig) on both num_frames and fps, and on a value out of range.
void apply(const VideoChoice& choice, VideoSettings& settings);

/// Throws Error (kConfig) unless `max_soft_tokens` is one of the five budgets that Gemma 4 knows.
void check_image_budget(std::int64_t max_soft_tokens);

/// Reads processor_config.json of a model folder, or preprocessor_config.json and video_preprocessor_config.json where
/// that file is missing; defaults for the rest. Throws Error naming file and key on a setting that Bezel cannot follow.
MediaSettings read_processor_config(const std::string& model_dir);

/// The same for the model that `config` describes: of the unified one patches of the size of a soft token, and frames
/// of samples up to the model's context. Throws Error also where the two disagree.
MediaSettings media_settings(const std::string& model_dir, const gemma4::ModelConfig& config);

}  // namespace bezel::data
