#pragma once

#include "bezel/data/batch.h"
#include "bezel/data/chat_template.h"
#include "bezel/data/tokenizer.h"

namespace bezel::data {

/// Throws Error unless the tokenizer has the tokens of the chat format, and for the media that the model takes the
/// placeholders `ids`.
void check_tokens(const Tokenizer& tokenizer, ChatFormat format, const MediaTokenIds& ids,
                  const input::PerKind<bool>& media);

}  // namespace bezel::data
