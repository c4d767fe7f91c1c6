#pragma once

#include <string>

#include "bezel/io/json.h"

namespace bezel::data {

/// Moves media that a message lists beside its content (`images`, `audios`, `videos`, or one as `image`, `audio`,
/// `video`) into parts of its content: into the places that <image>, <audio> and <video> tags, typed placeholders or
/// empty parts mark, else before the text. Throws Error starting with `source` when a message marks more places than it
/// lists media.
void place_message_media(io::Json& messages, const std::string& source);

}  // namespace bezel::data
