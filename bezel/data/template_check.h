#pragma once

#include <string>

#include "bezel/data/chat_template.h"

namespace bezel::data {

/// A warning when the chat template that `model` carries is not one of `format`, "" when it is one or there is none.
/// Bezel renders the format itself and runs no template, so one is known by its marks: the tokens around a turn in its
/// text. Looks where transformers does, in that order: chat_template.jinja, chat_template.json, tokenizer_config.json;
/// in a GGUF file at tokenizer.chat_template. Throws Error when one of them is damaged or no regular file.
std::string foreign_template_warning(const std::string& model, ChatFormat format);

}  // namespace bezel::data
