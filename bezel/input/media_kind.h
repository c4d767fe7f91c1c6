#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string_view>

namespace bezel::input {

/// Kinds of media that a sample may hold, in the order in which their encoders run.
enum class MediaKind { kImage, kAudio, kVideo };

inline constexpr MediaKind kMediaKinds[] = {MediaKind::kImage, MediaKind::kAudio, MediaKind::kVideo};

/// The kind whose encoder reads media of `kind`: the frames of a video are read as images are.
constexpr MediaKind encoder_kind(MediaKind kind) { return kind == MediaKind::kVideo ? MediaKind::kImage : kind; }

/// One value for each kind, in the order of kMediaKinds.
template <typename Value>
struct PerKind {
  Value values[std::size(kMediaKinds)]{};

  constexpr Value& operator[](MediaKind kind) { return values[static_cast<std::size_t>(kind)]; }
  constexpr const Value& operator[](MediaKind kind) const { return values[static_cast<std::size_t>(kind)]; }
  friend bool operator==(const PerKind&, const PerKind&) = default;
};

/// How samples, texts, tensors and messages name a kind.
struct MediaWords {
  std::string_view part;         ///< "image": type of a content part, and a key that may name its file
  std::string_view list;         ///< "images": key of a sample, a list of files
  std::string_view url, data;    ///< types and keys of OpenAI's parts with a URL and with base64
  std::string_view placeholder;  ///< one soft token, or before its expansion all of them
  std::string_view tag;          ///< the placeholder as LLaVA and LLaMA-Factory write it
  std::string_view open, close;  ///< tokens around the soft tokens, of a video around those of each frame
  std::int64_t token_type;       ///< value in mm_token_type_ids
  std::string_view item, items;  ///< "image", "images": in messages
  std::string_view count;        ///< "images": a number of them
  std::string_view encoder;      ///< "vision tower"
  std::string_view formats;      ///< of files
};

inline constexpr PerKind<MediaWords> kMediaWords{{
    {"image", "images", "image_url", "input_image", "<|image|>", "<image>", "<|image>", "<image|>", 1, "image",
     "images", "images", "vision tower", "JPEG, PNG, WebP, GIF, BMP or TIFF"},
    {"audio", "audios", "audio_url", "input_audio", "<|audio|>", "<audio>", "<|audio>", "<audio|>", 3, "audio clip",
     "audio clips", "audio_clips", "audio tower", "WAV, FLAC, MP3, OGG, M4A or WebM"},
    {"video", "videos", "video_url", "input_video", "<|video|>", "<video>", "<|image>", "<image|>", 2, "video",
     "videos", "videos", "vision tower", "MP4, MOV, WebM, MKV, AVI or GIF"},
}};

/// The kind whose content parts have this type; nothing for other types.
constexpr std::optional<MediaKind> kind_of_part(std::string_view type) {
  for (const MediaKind kind : kMediaKinds)
    if (const MediaWords& words = kMediaWords[kind]; type == words.part || type == words.url || type == words.data)
      return kind;
  return std::nullopt;
}

/// Token ids of the placeholders (config.json: image_token_id, audio_token_id, video_token_id).
struct MediaTokenIds {
  PerKind<std::int64_t> of{{258880, 258881, 258884}};

  std::int64_t operator[](MediaKind kind) const { return of[kind]; }
  bool contains(std::int64_t id) const {
    for (const std::int64_t placeholder : of.values)
      if (id == placeholder) return true;
    return false;
  }
};

}  // namespace bezel::input
