#pragma once

#include <string_view>

#include "bezel/input/media_kind.h"
#include "bezel/io/json.h"

namespace bezel::data {

/// The messages of a `conversations` line (ShareGPT, LLaMA-Factory) in the form that render_chat takes: turns are
/// {"from": "human", "value": ...} or {"role": ..., "content": ...}, function_call and
/// observation turns become tool calls and their answers; the line's `system` comes first. Throws Error naming the
/// turn.
io::Json messages_of_conversations(const io::JsonView& line);

/// The messages of an `instruction` + `output` line (Alpaca, LLaMA-Factory), with its `input`, `system` and `history`
/// (pairs of request and answer) where given.
io::Json messages_of_instruction(const io::JsonView& line);

/// Puts the line's `system` before `messages`. Throws Error when they begin with a system message of another text.
void add_system(const io::JsonView& line, io::Json& messages);

/// Makes parts of the <image>, <audio> and <video> tags of `kinds` in the plain texts of user messages, as
/// LLaMA-Factory writes them. What is no message stays as it is.
void split_tags(io::Json& messages, const input::PerKind<bool>& kinds);

}  // namespace bezel::data
