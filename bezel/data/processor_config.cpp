#include "bezel/data/processor_config.h"

#include <array>
#include <cmath>
#include <filesystem>
#include <optional>

#include "bezel/error.h"
#include "bezel/io/json.h"
#include "bezel/io/regular_file.h"

namespace bezel::data {
namespace {

constexpr std::array<std::int64_t, 5> kBudgets = {70, 140, 280, 560, 1120};
constexpr const char* kBudgetList = "70, 140, 280, 560 or 1120";
constexpr std::int64_t kBicubic = 3;  // PIL.Image.Resampling

bool is_budget(std::int64_t value) {
  for (const std::int64_t budget : kBudgets) {
    if (value == budget) return true;
  }
  return false;
}

/// Refuses a switch that would change what the model sees in a way that Bezel does not follow.
void require_flag(const io::JsonView& section, const char* name, bool wanted) {
  const auto value = section.find(name);
  if (value && value->boolean() != wanted) {
    value->fail(wanted ? "true (Bezel knows no other way)" : "false (Bezel knows no other way)");
  }
}

void require_number(const io::JsonView& section, const char* name, double wanted) {
  const auto value = section.find(name);
  if (value && value->number() != wanted) {
    value->fail(std::to_string(wanted) + " (the audio tower's own framing, the only one Bezel knows)");
  }
}

void require_constant_list(const io::JsonView& section, const char* name, double wanted) {
  const auto list = section.find(name);
  if (!list) return;
  for (const io::JsonView& element : list->elements()) {
    if (element.number() != wanted) element.fail(std::to_string(wanted) + " (Gemma 4 does not normalize images)");
  }
}

void read_number(const io::JsonView& section, const char* name, double min, double max, double& out) {
  const auto value = section.find(name);
  if (!value) return;
  out = value->number();
  if (!(out >= min && out <= max)) value->fail("a number from " + std::to_string(min) + " to " + std::to_string(max));
}

ImageSettings read_image(const io::JsonView& section) {
  ImageSettings out;
  if (const auto value = section.find("patch_size")) out.patch_size = value->whole(1, 256);
  if (const auto value = section.find("pooling_kernel_size")) out.pooling = value->whole(1, 64);
  if (const auto value = section.find("max_soft_tokens")) {
    out.max_soft_tokens = value->whole(1);
    if (!is_budget(out.max_soft_tokens)) value->fail(kBudgetList);
  }
  require_flag(section, "do_resize", true);
  require_flag(section, "do_rescale", true);
  require_flag(section, "do_convert_rgb", true);
  if (const auto value = section.find("resample"); value && value->whole() != kBicubic) value->fail("3 (bicubic)");
  if (const auto value = section.find("do_normalize"); value && value->boolean()) {
    require_constant_list(section, "image_mean", 0.0);
    require_constant_list(section, "image_std", 1.0);
  }
  read_number(section, "rescale_factor", 1e-9, 1e9, out.rescale);
  return out;
}

AudioSettings read_audio(const io::JsonView& section) {
  AudioSettings out;
  require_number(section, "feature_size", 128);
  require_number(section, "sampling_rate", static_cast<double>(input::kAudioSampleRate));
  require_number(section, "frame_length", static_cast<double>(input::kAudioFrameLength));
  require_number(section, "hop_length", static_cast<double>(input::kAudioHopLength));
  require_number(section, "frame_length_ms", 20.0);
  require_number(section, "hop_length_ms", 10.0);
  require_number(section, "fft_length", 512);
  require_number(section, "preemphasis", 0.0);
  require_number(section, "dither", 0.0);
  require_number(section, "padding_value", 0.0);
  require_flag(section, "fft_overdrive", false);
  for (const char* name : {"per_bin_mean", "per_bin_stddev"}) {
    if (const auto value = section.find(name)) value->fail("null (normalization per mel band is not supported)");
  }
  read_number(section, "min_frequency", 0.0, 8000.0, out.min_frequency);
  read_number(section, "max_frequency", 0.0, 8000.0, out.max_frequency);
  read_number(section, "mel_floor", 0.0, 1e6, out.mel_floor);
  read_number(section, "input_scale_factor", 1e-9, 1e9, out.input_scale_factor);
  if (out.min_frequency >= out.max_frequency) {
    section.fail("min_frequency below max_frequency");
  }
  return out;
}

/// Of the unified model, whose front end only cuts.
AudioSettings read_frames(const io::JsonView& section) {
  AudioSettings out;
  out.frame_samples = 640;
  if (const auto value = section.find("audio_samples_per_token")) out.frame_samples = value->whole(1, 1 << 24);
  if (const auto value = section.find("feature_size"); value && value->whole() != out.frame_samples)
    value->fail("audio_samples_per_token (" + std::to_string(out.frame_samples) + ")");
  require_number(section, "sampling_rate", static_cast<double>(input::kAudioSampleRate));
  require_number(section, "padding_value", 0.0);
  return out;
}

using AudioReader = AudioSettings (*)(const io::JsonView& section);

/// preprocessor_config.json holds the settings of one processor at its top level; which one, its keys say.
MediaSettings read_single(const io::JsonView& root, AudioReader audio) {
  MediaSettings out;
  if (root.find("max_soft_tokens") || root.find("image_processor_type")) out.image = read_image(root);
  if (root.find("feature_size") || root.find("feature_extractor_type")) out.audio = audio(root);
  return out;
}

std::optional<MediaSettings> read_file(const std::string& model_dir, AudioReader audio_reader) {
  const std::filesystem::path dir(model_dir);
  for (const char* name : {"processor_config.json", "preprocessor_config.json"}) {
    const std::string path = (dir / name).string();
    if (!io::is_there(path)) continue;
    const io::Json json = io::read_json_file(path);
    const io::JsonView root(json, path);
    const auto image = root.find("image_processor");
    const auto audio = root.find("feature_extractor");
    if (!image && !audio) return read_single(root, audio_reader);
    MediaSettings out;
    if (image) out.image = read_image(*image);
    if (audio) out.audio = audio_reader(*audio);
    return out;
  }
  return std::nullopt;
}

// What a processor makes must be what the model takes.
void require_fit(const std::string& model_dir, const char* what, std::int64_t made, std::int64_t taken) {
  if (made != taken)
    throw Error(model_dir, ": the processor's files make ", what, " of ", made, ", config.json wants ", taken,
                "; they are of different models");
}

MediaSettings unified_settings(const std::string& model_dir, const gemma4::ModelConfig& config) {
  MediaSettings out = read_file(model_dir, read_frames).value_or(MediaSettings{});
  out.image.patch_size *= out.image.pooling;
  out.image.pooling = 1;
  if (config.vision) {
    require_fit(model_dir, "patches with a side", out.image.patch_size, config.vision->patch_size);
    if (out.image.max_soft_tokens > config.vision->position_embedding_size)
      throw Error(model_dir, ": images of up to ", out.image.max_soft_tokens, " soft tokens (max_soft_tokens), but ",
                  "vision_config.mm_posemb_size of config.json has places for ", config.vision->position_embedding_size,
                  " in a row");
  }
  if (!config.audio) return out;
  if (out.audio.frame_samples == 0) out.audio.frame_samples = config.audio->hidden_size;
  require_fit(model_dir, "frames", out.audio.frame_samples, config.audio->hidden_size);
  // No cap but the model's own context.
  out.audio.max_samples = config.text.max_position_embeddings * out.audio.frame_samples;
  return out;
}

}  // namespace

std::int64_t MediaSettings::max_soft_tokens(input::MediaKind kind) const {
  if (kind == input::MediaKind::kImage) return image.max_soft_tokens;
  return audio.frame_samples > 0 ? audio.max_samples / audio.frame_samples : input::kMaxAudioTokens;
}

std::int64_t MediaSettings::rows_per_soft_token(input::MediaKind kind) const {
  return kind == input::MediaKind::kImage ? image.pooling * image.pooling : 1;
}

void check_image_budget(std::int64_t max_soft_tokens) {
  if (is_budget(max_soft_tokens)) return;
  throw Error(ErrorKind::kConfig, "max_soft_tokens: got ", max_soft_tokens, ", expected ", kBudgetList);
}

MediaSettings read_processor_config(const std::string& model_dir) {
  return read_file(model_dir, read_audio).value_or(MediaSettings{});
}

MediaSettings media_settings(const std::string& model_dir, const gemma4::ModelConfig& config) {
  return config.is_unified() ? unified_settings(model_dir, config) : read_processor_config(model_dir);
}

}  // namespace bezel::data
