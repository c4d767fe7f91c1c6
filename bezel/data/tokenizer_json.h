#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "bezel/data/bpe.h"
#include "bezel/data/replace.h"
#include "bezel/data/vocabulary.h"
#include "bezel/io/json.h"

namespace bezel::data {

struct AddedToken {
  std::string content;
  std::int32_t id = 0;
  bool special = false;
  bool normalized = false;  ///< matched after the normalizer, not before
};

/// Everything that a Hugging Face tokenizer.json of the Gemma family says.
struct TokenizerSpec {
  Vocabulary words;             ///< of the model; those of added tokens beyond it follow
  std::size_t model_words = 0;  ///< how many belong to the model
  std::vector<BpeMerge> merges;
  BpeFallback fallback;
  std::vector<AddedToken> added;
  std::vector<Replace> normalizer;
  std::vector<std::string> splits;   ///< text is cut behind each occurrence
  std::vector<std::int32_t> prefix;  ///< what the post-processor puts in front
  std::vector<std::int32_t> suffix;
  std::vector<Replace> decoder;
};

/// The text of a tokenizer.json. Throws Error when it is no regular file, too large or a placeholder.
std::string read_tokenizer_file(const std::string& path);

/// The entries of a list `added_tokens`. Throws Error for flags that Bezel does not know.
std::vector<AddedToken> read_added_tokens(const io::JsonView& list);

/// Reads tokenizer.json. Throws Error naming `source` and the key on: a component that Bezel does not know, ids that
/// are negative, repeated or leave holes, repeated words, merges whose parts or result are no words.
TokenizerSpec parse_tokenizer(std::string_view text, std::string_view source);

/// Fills the ids of the words for single bytes, "<0x00>" to "<0xFF>". Throws Error naming `source` and `key` when one
/// is missing.
void fill_byte_ids(TokenizerSpec& spec, std::string_view source, std::string_view key);

}  // namespace bezel::data
