#pragma once

#include <string>

#include "bezel/io/json.h"
#include "bezel/jinja/template.h"

namespace bezel::data {

/// How a chat template marks the turns of the model.
struct TurnMarks {
  std::string header;       ///< opens a turn in every prompt; not learnt
  std::string prompt_tail;  ///< follows the header in a generation prompt alone, such as an empty thought
  std::string end;          ///< closes a turn, without white space at its end
  std::string problem;      ///< why it is not clear what an assistant turn is; empty where it is
};

/// Renders short chats with `variables` to find the marks. Never throws on a template that refuses them: that is a
/// problem.
TurnMarks find_turn_marks(const jinja::Template& chat_template, const io::Json& variables);

/// `variables` with a list of messages and what transformers passes to every template.
io::Json template_variables(io::Json variables, io::Json messages, io::Json tools, bool add_generation_prompt);

}  // namespace bezel::data
