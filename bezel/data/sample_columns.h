#pragma once

#include <string>

#include "bezel/input/media_kind.h"
#include "bezel/io/json.h"

namespace bezel::data {

/// A line under the names that read_sample uses.
struct KnownColumns {
  io::Json line;
  bool adds_request = false;  ///< the line is read as it is
};

/// The line with other tools' columns under the names that read_sample uses: `image`, `image_path` and `audio`,
/// `audio_path`, `audio_filepath`, `wav` and `video`, `video_path` become the lists `images`, `audios` and `videos`,
/// `functions` becomes `tools` and `system_prompt` `system`; `messages`, `conversations`, `images`, `audios` and
/// `videos` may be texts that hold their list as JSON. A medium (one of these, or `file_name`, `path`) with its text
/// (`text`, `sentence`, `transcription`, `transcript` or `caption`) becomes a user message with the medium and the
/// line's `prompt`, `instruction` or `question`, and an answer; without one an audio clip is asked "Transcribe the
/// audio.", an image "Describe the image." and a video "Describe the video.". Throws Error on a column given twice.
KnownColumns with_known_columns(const io::JsonView& line);

/// Whether the line's list of media of `kind` holds something.
bool has_media(const io::JsonView& line, input::MediaKind kind);

/// Puts parts for the lists `images`, `audios` and `videos` before the text of the first user message when nothing in
/// `messages` marks a place for them, as TRL does.
void mark_listed_media(const io::JsonView& line, io::Json& messages);

/// Names `input_schema` of `tools` (Anthropic's) `parameters`. Throws Error starting with `source` where a tool has
/// both.
void rename_input_schema(io::Json& tools, const std::string& source);

}  // namespace bezel::data
