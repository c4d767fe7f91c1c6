#pragma once

#include "bezel/data/chat_template.h"

namespace bezel::data {

/// render_chat() by options.checkpoint_template: the text that transformers' apply_chat_template gives. Learnt are the
/// model's turns without their header, up to what ends them, or what is inside {% generation %} where the template has
/// it; never tools' answers. Throws Error where the template refuses the chat, leaves content out, or does not make
/// clear what an assistant turn is.
RenderedChat render_template_chat(const io::JsonView& messages, const io::Json* tools, const ChatOptions& options);

}  // namespace bezel::data
