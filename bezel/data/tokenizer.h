#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bezel/data/added_tokens.h"
#include "bezel/data/bpe.h"
#include "bezel/data/tokenizer_json.h"

namespace bezel::io {
class GgufFile;
}

namespace bezel::data {

/// The tokenizer of a Gemma checkpoint: the same ids as Hugging Face's tokenizers gives. Safe to share between threads.
class Tokenizer {
 public:
  /// Reads tokenizer.json; see parse_tokenizer for what is refused.
  static Tokenizer from_file(const std::string& path);
  static Tokenizer from_json(std::string_view text, std::string_view source);
  /// What the metadata of a GGUF file says; see read_gguf_tokenizer.
  static Tokenizer from_gguf(const io::GgufFile& file);
  /// That of a model: `model`/tokenizer.json of a checkpoint folder, or what the metadata of a GGUF file says; with
  /// `more` tokens, see add_tokens.
  static Tokenizer of_model(const std::string& model, std::span<const AddedToken> more = {});

  struct Encoding {
    std::vector<std::int64_t> ids;
    std::vector<std::size_t> begin_bytes;  ///< offsets into the text that was given; special tokens that were
    std::vector<std::size_t> end_bytes;    ///< put around it are empty spans at its ends
  };

  /// Splits `text`. Throws Error when it is not well-formed UTF-8.
  Encoding encode(std::string_view text, bool add_special_tokens = false) const;
  /// Text of `ids`; bytes that are no UTF-8 become U+FFFD each. Throws Error on an id that is not in the vocabulary.
  std::string decode(std::span<const std::int64_t> ids, bool skip_special_tokens = false) const;
  /// How the vocabulary spells token `id`: "▁cat", "<0xE2>"; "" for an id that it does not have.
  std::string word(std::int64_t id) const;
  /// The id of a word or added token.
  std::optional<std::int64_t> token_id(std::string_view token) const;
  /// Tokens that are cut out of a text before it is split.
  const std::vector<AddedToken>& added() const { return spec_.added; }
  /// Number of ids, added tokens included.
  std::int64_t vocab_size() const { return static_cast<std::int64_t>(spec_.words.size()); }

 private:
  explicit Tokenizer(TokenizerSpec spec);

  std::string normalize(std::string_view text) const;
  void encode_piece(std::string_view piece, std::size_t offset, Encoding& out) const;
  void encode_normalized(std::string_view piece, std::vector<BpeToken>& out) const;
  void encode_split(std::string_view piece, std::size_t split_idx, std::size_t offset,
                    std::vector<BpeToken>& out) const;

  TokenizerSpec spec_;
  Bpe bpe_;
  AddedTokenMatcher raw_added_;
  AddedTokenMatcher normalized_added_;
  std::vector<bool> is_special_;
};

}  // namespace bezel::data
