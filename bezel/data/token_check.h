#pragma once

#include "bezel/data/batch.h"
#include "bezel/data/chat_template.h"
#include "bezel/data/tokenizer.h"

namespace bezel::data {

/// Throws Error unless the tokenizer has the tokens of the chat format, and for the media that the model takes the
/// placeholders `ids`, but for video's, which check_placeholder looks for where a sample has one.
void check_tokens(const Tokenizer& tokenizer, ChatFormat format, const MediaTokenIds& ids,
                  const input::PerKind<bool>& media);

/// Throws Error unless the tokenizer has the placeholder of `kind` under the id that `ids` names.
void check_placeholder(const Tokenizer& tokenizer, MediaKind kind, const MediaTokenIds& ids);

}  // namespace bezel::data
