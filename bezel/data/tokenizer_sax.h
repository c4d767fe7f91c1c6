#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bezel/io/json.h"

namespace bezel::data {

/// tokenizer.json taken apart: the two large tables as flat lists, all else as a small document.
struct TokenizerDocument {
  struct Word {
    std::size_t begin = 0;  ///< in `text`
    std::size_t end = 0;
    std::int64_t id = 0;
  };

  io::Json rest;            ///< without model.vocab and model.merges
  std::string text;         ///< all strings of the two tables, one behind the other
  std::vector<Word> vocab;  ///< as written
  /// Ends in `text` of the strings of model.merges: two for a merge written as an array. A merge written as one string
  /// "a b" also has two, with the blank left out.
  std::vector<std::size_t> merge_ends;
  std::size_t merges_begin = 0;  ///< where the first of them begins
  bool has_vocab = false;
  bool has_merges = false;

  std::string_view slice(std::size_t begin, std::size_t end) const {
    return std::string_view(text).substr(begin, end - begin);
  }
};

/// Reads the document in one pass. Throws Error on what is not strict JSON and on entries of the wrong type.
TokenizerDocument read_tokenizer_document(std::string_view text, std::string_view source);

}  // namespace bezel::data
