#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string_view>

namespace bezel::input {

/// Kinds of media that a sample may hold, in the order in which their encoders run.
enum class MediaKind { kImage, kAudio };

inline constexpr MediaKind kMediaKinds[] = {MediaKind::kImage, MediaKind::kAudio};

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
  std::string_view open, close;  ///< tokens around the soft tokens
  std::int64_t token_type;       ///< value in mm_token_type_ids
  std::string_view item, items;  ///< "picture", "pictures": in messages
};

inline constexpr PerKind<MediaWords> kMediaWords{{
    {"image", "images", "image_url", "input_image", "<|image|>", "<|image>", "<image|>", 1, "picture", "pictures"},
    {"audio", "audios", "audio_url", "input_audio", "<|audio|>", "<|audio>", "<audio|>", 3, "recording", "recordings"},
}};

/// mm_token_type_ids of video, which has placeholders and no encoder yet.
inline constexpr std::int64_t kVideoTokenType = 2;

}  // namespace bezel::input
