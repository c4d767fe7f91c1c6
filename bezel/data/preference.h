#pragma once

#include <string>
#include <utility>
#include <vector>

#include "bezel/data/sample_text.h"
#include "bezel/input/preference_rows.h"
#include "bezel/io/json.h"

namespace bezel::data {

/// What a line of a data set holds, as the objective has it.
enum class LineKind {
  kSample,    ///< a supervised sample
  kPair,      ///< an answer that is better than another
  kLabelled,  ///< an answer that is good or bad; a pair is one of each
};

/// One answer with its prompt.
struct AnswerText {
  SampleText text;  ///< loss on the answer
  input::AnswerRole role = input::AnswerRole::kOnly;
  std::vector<std::pair<std::size_t, std::size_t>> prompt_spans{};  ///< loss on prompt and answer; see read_answers
};

/// The answers of a line: one, or of a pair chosen and rejected. Pairs are what TRL, LLaMA-Factory and axolotl write:
/// `prompt` (a string or messages; or `messages`, `conversations`, `instruction` + `input`) with `chosen` and
/// `rejected`, or both of these as whole chats that begin alike. Labels are `label` beside `prompt` +
/// `completion`, `messages`, `conversations` or `instruction` + `output`, whose last answer alone is meant. Other
/// columns are those of read_sample. With `learns_prompt` a chosen answer gets prompt_spans. Throws Error starting with
/// `source` as read_sample does, on a line of another kind, on answers that are alike, and on media behind the prompt.
std::vector<AnswerText> read_answers(const io::Json& line, const std::string& source, LineKind kind, bool learns_prompt,
                                     const SampleOptions& options);

}  // namespace bezel::data
