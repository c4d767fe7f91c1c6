#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "bezel/data/sample_text.h"

namespace bezel::data {

/// A sample as a question: what a model is given, and what it should say.
struct PromptAndAnswer {
  SampleText prompt;   ///< ends where the model's text begins; without loss spans
  std::string answer;  ///< as answer_text() gives it
};

/// Takes the last answer off a sample. A chat's prompt ends as the template's generation prompt does, with the empty
/// thought of large models. Nothing for plain text, and where nothing stands before the answer.
std::optional<PromptAndAnswer> split_answer(const SampleText& sample, ChatFormat format);

/// What an answer says: without thoughts, without the token that ends a turn or <eos> at its end, without blanks around
/// it.
std::string answer_text(std::string_view text);

struct AnswerScore {
  bool exact = false;     ///< the same text
  bool contains = false;  ///< the expected text is part of what was said; an empty one only of an empty one
};

/// Compares two answer_text()s. Each run of white space counts as one blank; with `ignore_case` A to Z as a to z.
AnswerScore score_answer(std::string_view said, std::string_view expected, bool ignore_case);

}  // namespace bezel::data
