#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "bezel/data/dataset.h"
#include "bezel/data/tokenizer.h"
#include "bezel/generate/generator.h"

namespace bezel::generate {

struct Answer {
  std::string text;  ///< as data::answer_text() gives it
  std::int64_t num_tokens = 0;
  bool finished = false;  ///< a stop token ended it, not the bound on its length
};

/// The model's most probable answer, token by token, to a prompt. Whatever the generator has read is forgotten first,
/// since the model may be another by now: an adapter was taken off. `on_token` is that of generate().
Answer greedy_answer(Generator& generator, const data::Tokenizer& tokenizer, const data::Sample& prompt,
                     const GenerateOptions& options, const std::function<bool(std::int64_t token)>& on_token = {});

}  // namespace bezel::generate
