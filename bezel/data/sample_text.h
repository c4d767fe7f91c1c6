#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "bezel/data/chat_template.h"
#include "bezel/data/media_source.h"
#include "bezel/data/sample_notes.h"
#include "bezel/io/json.h"

namespace bezel::data {

struct SampleOptions {
  ChatOptions chat;
  bool train_on_inputs = false;  ///< loss on all text, not only on what the model says
  bool takes_notes = true;       ///< fills SampleText::notes, for which chats with thoughts are rendered again
};

/// One line of a data set as text, with one placeholder for each item of media.
struct SampleText {
  std::string text;                                               ///< <bos> included
  std::vector<std::pair<std::size_t, std::size_t>> loss_spans{};  ///< byte ranges, in order, not overlapping
  std::vector<std::pair<std::size_t, std::size_t>> answers{};     ///< text that the model learns; empty in plain text
  std::vector<MediaSource> media{};                               ///< in the order of their placeholders
  std::string turn_header{};                                      ///< as RenderedChat has them
  std::string prompt_tail{};
  SampleNotes notes{};
};

/// Reads one of these forms, chosen by their keys: `messages`, `conversations` (ShareGPT), `prompt` + `completion`
/// (strings or messages), `instruction` + `output` (+ `input`, `history`), `text`. `system`, `tools` and
/// `chat_template_kwargs` go with all that are chats; `images`, `audios` and `videos` fill media parts, <image>,
/// <audio> and <video> tags and typed placeholders that name no file. Columns of other tools are read as
/// with_known_columns() says. Throws Error starting with `source` on anything else, on keys that nothing uses, on no
/// assistant turn, on nothing to learn, and when media and placeholders do not match in number.
SampleText read_sample(const io::Json& line, const std::string& source, const SampleOptions& options = {});

}  // namespace bezel::data
