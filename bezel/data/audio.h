#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include <torch/types.h>

#include "bezel/data/audio_decode.h"
#include "bezel/data/batch.h"
#include "bezel/data/processor_config.h"

namespace bezel::data {

/// Decodes an audio clip (see decode_samples) to mono float32 [N] at 16 kHz, N <= max_samples.
torch::Tensor decode_audio(std::span<const std::byte> bytes, std::string_view source, const AudioSettings& settings);

/// Log-mel frames of float32 `waveform` [N] at 16 kHz as Gemma4AudioFeatureExtractor makes them, computed in double.
/// What is beyond max_samples is cut. Below 161 samples there is no real frame and there is no soft token.
Media log_mel(const torch::Tensor& waveform, const AudioSettings& settings = {});

/// Frames of settings.frame_samples of `waveform`, the last one filled up with zeros, as
/// Gemma4UnifiedAudioFeatureExtractor makes them; each is a soft token. What is beyond max_samples is cut.
Media raw_frames(const torch::Tensor& waveform, const AudioSettings& settings);

/// Decodes an audio clip held in memory and makes its frames; throws Error when it is too short for one soft token.
Media load_audio(std::span<const std::byte> bytes, std::string_view source, const AudioSettings& settings);

/// The same for a file, of which only the needed part is read; throws Error (kIo) when it cannot be opened.
Media load_audio(const std::string& path, const AudioSettings& settings);

}  // namespace bezel::data
