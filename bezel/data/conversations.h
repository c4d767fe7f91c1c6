#pragma once

#include <string_view>

#include "bezel/io/json.h"

namespace bezel::data {

/// The messages of a `conversations` line (ShareGPT, LLaMA-Factory) in the form that render_chat takes: turns are
/// {"from": "human", "value": ...} or {"role": ..., "content": ...}, with <image> and <audio> tags; function_call and
/// observation turns become tool calls and their answers; the line's `system` comes first. Throws Error naming the
/// turn.
io::Json messages_of_conversations(const io::JsonView& line);

/// The messages of an `instruction` + `output` line (Alpaca, LLaMA-Factory), with its `input`, `system` and `history`
/// (pairs of request and answer) where given.
io::Json messages_of_instruction(const io::JsonView& line);

/// Makes parts of the <image> and <audio> tags in the plain texts of user messages, as LLaMA-Factory writes them.
/// What is no message stays as it is.
void split_tags(io::Json& messages);

}  // namespace bezel::data
