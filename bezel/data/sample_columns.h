#pragma once

#include <string>

#include "bezel/io/json.h"

namespace bezel::data {

/// The line with other tools' columns under the names that read_sample uses: `image` and `audio` become the lists
/// `images` and `audios`, `functions` becomes `tools`; `messages` and `conversations` may be texts that hold their list
/// as JSON. A medium with its text (`audio`, `audio_filepath` or `file_name`, beside `text`, `sentence`,
/// `transcription`, `transcript` or `caption`) becomes a user message with the medium and the line's `prompt` or
/// `instruction`, and an answer; recordings without one are asked "Transcribe the audio.". Throws Error on video, on a
/// column given twice and on a picture without a prompt.
io::Json with_known_columns(const io::JsonView& line);

/// Whether the line's list `name` holds something.
bool has_media(const io::JsonView& line, const char* name);

/// Puts parts for the lists `images` and `audios` before the text of the first user message when nothing in `messages`
/// marks a place for them, as TRL does.
void mark_listed_media(const io::JsonView& line, io::Json& messages);

/// Names `input_schema` of `tools` (Anthropic's) `parameters`. Throws Error starting with `source` where both stand.
void rename_input_schema(io::Json& tools, const std::string& source);

}  // namespace bezel::data
