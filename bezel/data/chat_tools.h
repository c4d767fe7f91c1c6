#pragma once

#include <string>

#include "bezel/io/json.h"

namespace bezel::data {

/// The declaration of a tool in the prompt: <|tool>declaration:NAME{...}<tool|>. `tool` is an OpenAI function tool,
/// or what such a tool holds under "function".
std::string render_tool_declaration(const io::JsonView& tool);

/// <|tool_call>call:NAME{...}<tool_call|>. Arguments are an object, or a string that holds one as JSON.
std::string render_tool_call(const io::JsonView& call);

/// <|tool_response>response:NAME{...}<tool_response|>; anything but an object is given as {value:...}.
std::string render_tool_response(const std::string& name, const io::Json& response);

}  // namespace bezel::data
