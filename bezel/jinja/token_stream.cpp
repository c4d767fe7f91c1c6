#include "bezel/jinja/token_stream.h"

#include <algorithm>

#include "bezel/error.h"

namespace bezel::jinja {

Token TokenStream::take() {
  Token token = current();
  if (!at_end()) ++at_;
  return token;
}

bool TokenStream::has_name_since(std::size_t begin, std::string_view text) const {
  for (std::size_t i = begin; i < at_; ++i)
    if (tokens_[i].kind == TokenKind::kName && tokens_[i].text == text) return true;
  return false;
}

bool TokenStream::is_one_of(std::initializer_list<std::string_view> names) const {
  return current().kind == TokenKind::kName && std::find(names.begin(), names.end(), current().text) != names.end();
}

bool TokenStream::skip_operator(std::string_view text) {
  const bool found = is_operator(text);
  if (found) take();
  return found;
}

bool TokenStream::skip_name(std::string_view text) {
  const bool found = is_name(text);
  if (found) take();
  return found;
}

void TokenStream::expect_operator(std::string_view text) {
  if (!skip_operator(text)) fail("expected '" + std::string(text) + "', found " + shown());
}

std::string TokenStream::expect_name() {
  if (current().kind != TokenKind::kName) fail("expected a name, found " + shown());
  return take().text;
}

void TokenStream::expect_block_end() {
  if (current().kind != TokenKind::kBlockEnd) fail("expected '%}', found " + shown());
  take();
}

void TokenStream::fail(int line, const std::string& what) const { throw Error(name_, ": line ", line, ": ", what); }

std::string TokenStream::shown() const {
  switch (current().kind) {
    case TokenKind::kEnd:
      return "the end of the template";
    case TokenKind::kBlockEnd:
      return "'%}'";
    case TokenKind::kVariableEnd:
      return "'}}'";
    case TokenKind::kBlockBegin:
      return "'{%'";
    case TokenKind::kVariableBegin:
      return "'{{'";
    case TokenKind::kData:
      return "text";
    default:
      return "'" + current().text + "'";
  }
}

}  // namespace bezel::jinja
