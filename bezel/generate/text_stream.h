#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bezel/data/tokenizer.h"

namespace bezel::generate {

/// Text of tokens that come one by one, in pieces that are well-formed UTF-8: bytes of a character that is not yet
/// whole are held back. The pieces together are Tokenizer::decode of all tokens, as far as the bytes are UTF-8;
/// a token that the tokenizer does not have, since a model's vocabulary may be larger, has no text.
class TextStream {
 public:
  /// `tokenizer` must outlive the stream. With `skip_special` special tokens have no text.
  TextStream(const data::Tokenizer& tokenizer, bool skip_special)
      : tokenizer_(tokenizer), skip_special_(skip_special) {}

  /// Takes a token and returns the text that is sure by now, which may be empty.
  std::string push(std::int64_t token);
  /// What was held back, at the end.
  std::string finish();

 private:
  const data::Tokenizer& tokenizer_;
  bool skip_special_;
  std::vector<std::int64_t> held_;
};

}  // namespace bezel::generate
