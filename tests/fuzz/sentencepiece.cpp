// Words of a SentencePiece model, as tokenizer.model has them.
#include "bezel/data/sentencepiece.h"

#include <cmath>

#include "bezel/data/utf8.h"
#include "fuzz/target.h"

using namespace bezel;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto pieces = fuzz::accepted([&] { return data::parse_sentencepiece(fuzz::as_text(data, size), "input"); });
  if (!pieces) return 0;
  fuzz::require(!pieces->empty());
  for (const data::SentencePiece& piece : *pieces) {
    fuzz::require(std::isfinite(piece.score) && data::find_invalid_utf8(piece.text) == std::string_view::npos);
    fuzz::require(piece.type >= data::SentencePiece::Type::kNormal && piece.type <= data::SentencePiece::Type::kByte);
  }
  return 0;
}
