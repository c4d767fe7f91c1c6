#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace bezel::data {

/// A word of a SentencePiece model.
struct SentencePiece {
  /// Numbers are those of the file.
  enum class Type { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

  std::string text;
  float score = 0.0f;
  Type type = Type::kNormal;
};

/// The words of a SentencePiece model (tokenizer.model), in order of their ids. Throws Error naming `source` for bytes
/// that are no such model, words longer than 1,024 bytes or no UTF-8, scores that are not finite, and types that are
/// not known. Reference: sentencepiece_model.proto.
std::vector<SentencePiece> parse_sentencepiece(std::string_view bytes, std::string_view source);

}  // namespace bezel::data
