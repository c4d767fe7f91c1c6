#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace bezel::jinja {

enum class TokenKind {
  kData,
  kBlockBegin,
  kBlockEnd,
  kVariableBegin,
  kVariableEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  std::string text;  ///< template text, name, operator, string after its escapes, or digits without '_'
  int line = 1;      ///< 1-based
};

/// Splits a template into tokens as jinja2 does with trim_blocks and lstrip_blocks on and keep_trailing_newline off.
/// Comments, raw tags and white space inside tags leave no token; the last token is kEnd. Names are ASCII.
/// Throws Error with `name` and the line where `source` is no template or no UTF-8.
std::vector<Token> tokenize(std::string_view source, const std::string& name);

}  // namespace bezel::jinja
