#pragma once

#include "bezel/data/chat_template.h"

namespace bezel::data {

/// render_chat for ChatFormat::kGemma3, as Gemma 3's template renders: user and model turns by turns, the system text
/// before the first user's. Throws Error, naming the message, on what the template has no place for: turns of another
/// order, tools, images and audio.
RenderedChat render_gemma3_chat(const io::JsonView& messages, const io::Json* tools, const ChatOptions& options);

}  // namespace bezel::data
