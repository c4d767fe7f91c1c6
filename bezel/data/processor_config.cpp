#include "bezel/data/processor_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <optional>

#include "bezel/data/video_decode.h"
#include "bezel/error.h"
#include "bezel/io/gguf_model.h"
#include "bezel/io/json.h"
#include "bezel/io/regular_file.h"

namespace bezel::data {
namespace {

constexpr std::array<std::int64_t, 5> kBudgets = {70, 140, 280, 560, 1120};
constexpr const char* kBudgetList = "70, 140, 280, 560 or 1120";
constexpr std::int64_t kMaxFrames = 1 << 20;
constexpr double kMaxRate = 1000;
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

ImageSettings read_image(const io::JsonView& section, ImageSettings out = {}) {
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

VideoSettings read_video(const io::JsonView& section) {
  VideoSettings out;
  out.frame = read_image(section, out.frame);
  if (const auto factor = section.find("rescale_factor"); factor && std::abs(out.frame.rescale * 255 - 1) > 1e-6)
    factor->fail("1 / 255 (the only one that is known for videos)");
  const auto number = section.find("num_frames");
  if (number) out.num_frames = number->whole(1, kMaxFrames);
  // As in the reference: a rate counts only where num_frames is null, and without both every frame is taken.
  const bool by_rate = !number && section.value().contains("num_frames");
  if (const auto value = section.find("fps")) {
    const double fps = value->number();
    if (!(fps > 0 && fps <= kMaxRate)) value->fail("frames a second, above 0 and at most 1000");
    if (by_rate) out.fps = fps;
  }
  out.takes_all = by_rate && !out.fps;
  if (const auto value = section.find("do_sample_frames"); value && !value->boolean()) out.takes_all = true;
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
void read_single(const io::JsonView& root, AudioReader audio, MediaSettings& out) {
  if (root.find("max_soft_tokens") || root.find("image_processor_type")) out.image = read_image(root);
  if (root.find("feature_size") || root.find("feature_extractor_type")) out.audio = audio(root);
}

// Older folders have a file of its own for videos.
void read_video_file(const std::filesystem::path& dir, MediaSettings& settings) {
  const std::string path = (dir / "video_preprocessor_config.json").string();
  if (!io::is_there(path)) return;
  const io::Json json = io::read_json_file(path);
  settings.video = read_video(io::JsonView(json, path));
}

MediaSettings read_files(const std::string& model_dir, AudioReader audio_reader) {
  const std::filesystem::path dir(model_dir);
  MediaSettings out;
  read_video_file(dir, out);
  for (const char* name : {"processor_config.json", "preprocessor_config.json"}) {
    const std::string path = (dir / name).string();
    if (!io::is_there(path)) continue;
    const io::Json json = io::read_json_file(path);
    const io::JsonView root(json, path);
    const auto image = root.find("image_processor");
    const auto audio = root.find("feature_extractor");
    const auto video = root.find("video_processor");
    if (!image && !audio && !video) {
      read_single(root, audio_reader, out);
      return out;
    }
    if (image) out.image = read_image(*image);
    if (audio) out.audio = audio_reader(*audio);
    if (video) out.video = read_video(*video);
    return out;
  }
  return out;
}

// What a processor makes must be what the model takes.
void require_fit(const std::string& model_dir, const char* what, std::int64_t made, std::int64_t taken) {
  if (made != taken)
    throw Error(model_dir, ": the processor's files make ", what, " of ", made, ", config.json wants ", taken,
                "; they are of different models");
}

void check_patches(const std::string& model_dir, const char* what, const ImageSettings& made,
                   const gemma4::VisionConfig& taken) {
  require_fit(model_dir, "patches with a side", made.patch_size, taken.patch_size);
  if (made.max_soft_tokens > taken.position_embedding_size)
    throw Error(model_dir, ": ", what, " of up to ", made.max_soft_tokens, " soft tokens (max_soft_tokens), but ",
                "vision_config.mm_posemb_size of config.json has places for ", taken.position_embedding_size,
                " in a row");
}

// What a GGUF file says of images; the rest is as released, where the model has places for it.
void fit_to_gguf(const gemma4::VisionConfig& vision, ImageSettings& images) {
  images.patch_size = vision.patch_size;
  images.max_soft_tokens = std::min(images.max_soft_tokens, vision.position_embedding_size);
}

MediaSettings unified_settings(const std::string& model_dir, const gemma4::ModelConfig& config) {
  MediaSettings out = read_files(model_dir, read_frames);
  for (ImageSettings* size : {&out.image, &out.video.frame}) {
    size->patch_size *= size->pooling;
    size->pooling = 1;
    if (config.vision && io::is_gguf_path(model_dir)) fit_to_gguf(*config.vision, *size);
  }
  if (config.vision) {
    check_patches(model_dir, "images", out.image, *config.vision);
    check_patches(model_dir, "frames of videos", out.video.frame, *config.vision);
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
  switch (kind) {
    case input::MediaKind::kImage:
      return image.max_soft_tokens;
    case input::MediaKind::kVideo:
      return (video.fps || video.takes_all ? kMaxVideoFrames : video.num_frames) * video.frame.max_soft_tokens;
    case input::MediaKind::kAudio:
      break;
  }
  return audio.frame_samples > 0 ? audio.max_samples / audio.frame_samples : input::kMaxAudioTokens;
}

std::int64_t MediaSettings::rows_per_soft_token(input::MediaKind kind) const {
  switch (kind) {
    case input::MediaKind::kImage:
      return image.pooling * image.pooling;
    case input::MediaKind::kVideo:
      return video.frame.pooling * video.frame.pooling;
    case input::MediaKind::kAudio:
      break;
  }
  return 1;
}

void apply(const VideoChoice& choice, VideoSettings& settings) {
  if (choice.num_frames && choice.fps)
    throw Error(ErrorKind::kConfig, "video_frames and video_fps are both given; keep one");
  if (choice.num_frames) {
    if (*choice.num_frames < 1 || *choice.num_frames > kMaxFrames)
      throw Error(ErrorKind::kConfig, "video_frames: got ", *choice.num_frames, ", expected 1 to ", kMaxFrames);
    settings.num_frames = *choice.num_frames;
    settings.fps = std::nullopt;
    settings.takes_all = false;
  }
  if (choice.fps) {
    if (!(*choice.fps > 0 && *choice.fps <= kMaxRate))
      throw Error(ErrorKind::kConfig, "video_fps: got ", *choice.fps, ", expected above 0 and at most ", kMaxRate);
    settings.fps = choice.fps;
    settings.takes_all = false;
  }
  if (!choice.soft_tokens) return;
  if (!is_budget(*choice.soft_tokens))
    throw Error(ErrorKind::kConfig, "video_soft_tokens: got ", *choice.soft_tokens, ", expected ", kBudgetList);
  settings.frame.max_soft_tokens = *choice.soft_tokens;
}

void check_image_budget(std::int64_t max_soft_tokens) {
  if (is_budget(max_soft_tokens)) return;
  throw Error(ErrorKind::kConfig, "max_soft_tokens: got ", max_soft_tokens, ", expected ", kBudgetList);
}

MediaSettings read_processor_config(const std::string& model_dir) { return read_files(model_dir, read_audio); }

MediaSettings media_settings(const std::string& model_dir, const gemma4::ModelConfig& config) {
  return config.is_unified() ? unified_settings(model_dir, config) : read_processor_config(model_dir);
}

}  // namespace bezel::data
