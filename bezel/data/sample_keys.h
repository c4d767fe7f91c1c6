#pragma once

#include <string>

#include "bezel/io/json.h"

namespace bezel::data {

enum class SampleForm { kMessages, kConversations, kPrompt, kChatPrompt, kInstruction, kText };

/// Throws Error naming line and key, with what to write instead, when `line` holds a key that its form does not use
/// and that is not known to be harmless (an id, a source, a score). Keys whose value is null or empty are skipped.
void check_line_keys(const io::JsonView& line, SampleForm form);

/// The same for the keys of messages, of the parts of their content and of their tool calls.
void check_message_keys(const io::JsonView& messages);

/// The same for the turns of `conversations`.
void check_turn_keys(const io::JsonView& turns);

/// The same for the keys of tools.
void check_tool_keys(const io::JsonView& tools);

/// "; 'question': write the request as …" for each key of `line` that there is advice for; "" without such a key.
std::string advice_on_keys(const io::JsonView& line);

}  // namespace bezel::data
