#pragma once

#include "bezel/io/json.h"

namespace bezel::data {

/// Messages as transformers passes them to a chat template, from the spellings that samples use: the role model becomes
/// assistant, media parts have the types image, audio and video, tool calls are {type, function}, arguments in JSON
/// text become objects, and a thought has the names reasoning_content and thinking.
io::Json template_messages(const io::JsonView& messages);

/// Tools as JSON schemas {type: function, function}; null where there is none.
io::Json template_tools(const io::Json* tools);

}  // namespace bezel::data
