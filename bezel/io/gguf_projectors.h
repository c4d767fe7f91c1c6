#pragma once

#include <string_view>

#include "bezel/io/gguf.h"

namespace bezel::io {

/// What `clip.vision.projector_type` and `clip.audio.projector_type` of an `mmproj` file say. Reference: llama.cpp's
/// conversion/gemma.py.
struct ProjectorTypes {
  std::string_view vision, audio;
};

constexpr ProjectorTypes kTowerProjectors{"gemma4v", "gemma4a"};       ///< towers of all sizes but the 12B
constexpr ProjectorTypes kEmbedderProjectors{"gemma4uv", "gemma4ua"};  ///< the 12B's embedders

/// Patches along a side of a soft token where no key says it.
constexpr std::int64_t kUsualPooling = 3;

/// Whether `towers` are the 12B's embedders. Throws Error when a projector type is no text.
inline bool are_embedders(const GgufFile& towers) {
  const auto is = [&towers](const char* key, std::string_view type) {
    const GgufValue* value = towers.get(key);
    return value != nullptr && value->text() == type;
  };
  return is("clip.vision.projector_type", kEmbedderProjectors.vision) ||
         is("clip.audio.projector_type", kEmbedderProjectors.audio);
}

}  // namespace bezel::io
