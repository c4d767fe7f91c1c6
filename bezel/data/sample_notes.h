#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

#include "bezel/io/json.h"

namespace bezel::data {

/// What is counted in a valid sample, for the report.
struct SampleNotes {
  std::size_t thoughts_left_out = 0;  ///< messages whose thoughts are not in the text
  std::size_t added_requests = 0;     ///< 1 where a medium with its text has no request, so that Bezel adds one
  std::size_t empty_answers = 0;      ///< learned messages of the model without text, calls or tool responses
};

/// Notes of `messages`, which a chat template has made `text` of; `render` applies that template to other messages.
SampleNotes note_messages(const io::JsonView& messages, std::string_view text,
                          const std::function<std::string(const io::Json&)>& render);

}  // namespace bezel::data
