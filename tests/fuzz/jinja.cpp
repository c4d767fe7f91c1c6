// The lexer of chat templates: lines rise, the end comes once and last, and no token is longer than the template
// allows.
#include <algorithm>

#include "bezel/jinja/lexer.h"
#include "fuzz/target.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace bezel;
  const auto source = fuzz::as_text(data, size);
  const auto tokens = fuzz::accepted([&] { return jinja::tokenize(source, "input"); });
  if (!tokens) return 0;
  const auto lines = 1 + std::count_if(source.begin(), source.end(), [](char c) { return c == '\n' || c == '\r'; });
  int line = 1;
  std::size_t bytes = 0;
  for (const auto& token : *tokens) {
    fuzz::require(token.line >= line && token.line <= lines);
    fuzz::require((token.kind == jinja::TokenKind::kEnd) == (&token == &tokens->back()));
    line = token.line;
    bytes += token.text.size();
  }
  fuzz::require(bytes <= 2 * size);
  return 0;
}
