#include "bezel/data/media.h"

#include <span>

#include "bezel/data/audio.h"
#include "bezel/data/audio_probe.h"
#include "bezel/data/image.h"
#include "bezel/data/media_video.h"
#include "bezel/error.h"
#include "bezel/io/file_sample.h"
#include "bezel/io/sha256.h"

namespace bezel::data {
namespace {

std::span<const std::byte> bytes_of(const std::string& text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

// "" where the sample holds the bytes.
std::string file_of(const MediaSource& source, const std::string& root, std::string_view name) {
  return source.bytes.empty() ? resolve_media_path(root, source.path, name) : "";
}

std::string fingerprint_of(const std::string& path) {
  const io::RegularFile file(path);
  io::Sha256 hash;
  hash.update(std::to_string(file.size_bytes()) + "\n");
  io::update_with_samples(hash, file, 0, file.size_bytes());
  return hash.finish();
}

void probe_image(const MediaSource& source, const std::string& path, std::string_view name,
                 const ImageSettings& settings, MediaInfo& info) {
  info.size = path.empty() ? probe_image_size(bytes_of(source.bytes), name) : probe_image_file(path);
  info.tokens.soft_tokens = input::image_soft_tokens(info.size.height, info.size.width, settings.patch_size,
                                                     settings.max_soft_tokens, settings.pooling);
}

void probe_audio(const MediaSource& source, const std::string& path, std::string_view name,
                 const AudioSettings& settings, MediaInfo& info) {
  const std::int64_t most = settings.max_samples;
  const AudioLength length =
      path.empty() ? probe_audio_bytes(source.bytes, most, name) : probe_audio_file(path, most, name);
  info.samples = length.samples;
  info.is_cut = length.is_cut;
  info.tokens.soft_tokens = settings.frame_samples > 0 ? input::audio_frame_tokens(info.samples, settings.frame_samples)
                                                       : input::audio_soft_tokens(info.samples);
  if (info.tokens.soft_tokens == 0)
    throw Error(name, ": an audio clip of ", info.samples, " samples at 16 kHz is too short for one soft token");
}

MediaInfo probe_video(const MediaSource& source, const std::string& root, std::string_view name,
                      const VideoSettings& settings) {
  const VideoFiles files = find_video(source, root, name);
  const Video video = open_video(files, source, name, settings);
  MediaInfo info{.kind = source.kind,
                 .path = source.frames.empty() ? source.path : source.frames[0],
                 .size = video.info().size,
                 .num_frames = video.info().num_frames,
                 .fps = video.info().fps,
                 .tokens = video_tokens(video, settings)};
  if (files.paths.empty()) return info;
  io::Sha256 hash;
  if (!files.is_list) hash.update(fingerprint_of(files.paths[0]));
  if (files.is_list)
    for (const std::int64_t idx : video.indices())
      hash.update(fingerprint_of(files.paths[static_cast<std::size_t>(idx)]));
  info.fingerprint = hash.finish();
  return info;
}

LoadedMedia load_video(const MediaSource& source, const std::string& root, std::string_view name,
                       const VideoSettings& settings) {
  Video video = open_video(find_video(source, root, name), source, name, settings);
  LoadedMedia out{.tokens = video_tokens(video, settings), .items = {}};
  video.decode([&](RgbImage frame) { out.items.push_back(make_frame(std::move(frame), settings.frame)); });
  return out;
}

// An image or audio clip as the one item that it is.
LoadedMedia single(Media media) {
  LoadedMedia out{.tokens = {.soft_tokens = media.num_soft_tokens}, .items = {}};
  out.items.push_back(std::move(media));
  return out;
}

}  // namespace

LoadedMedia load_media(MediaKind kind, const std::string& path, const MediaSettings& settings) {
  switch (kind) {
    case MediaKind::kImage:
      return single(load_image(path, settings.image));
    case MediaKind::kAudio:
      return single(load_audio(path, settings.audio));
    case MediaKind::kVideo:
      return load_video({.kind = kind, .path = path}, "", "", settings.video);
  }
  return {};
}

LoadedMedia load_media(const MediaSource& source, const std::string& root, std::string_view name,
                       const MediaSettings& settings) {
  if (source.kind == MediaKind::kVideo) return load_video(source, root, name, settings.video);
  if (source.bytes.empty()) return load_media(source.kind, file_of(source, root, name), settings);
  if (source.kind == MediaKind::kImage) return single(load_image(bytes_of(source.bytes), name, settings.image));
  return single(load_audio(bytes_of(source.bytes), name, settings.audio));
}

MediaInfo probe_media(const MediaSource& source, const std::string& root, std::string_view name,
                      const MediaSettings& settings) {
  if (source.kind == MediaKind::kVideo) return probe_video(source, root, name, settings.video);
  MediaInfo info{.kind = source.kind, .path = source.path};
  const std::string path = file_of(source, root, name);
  if (!path.empty()) info.fingerprint = fingerprint_of(path);
  if (source.kind == MediaKind::kImage)
    probe_image(source, path, name, settings.image, info);
  else
    probe_audio(source, path, name, settings.audio, info);
  return info;
}

}  // namespace bezel::data
