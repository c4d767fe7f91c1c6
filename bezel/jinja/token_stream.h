#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "bezel/jinja/lexer.h"

namespace bezel::jinja {

/// Tokens of a template, read one after the other.
class TokenStream {
 public:
  TokenStream(std::vector<Token> tokens, std::string name) : tokens_(std::move(tokens)), name_(std::move(name)) {}

  const Token& current() const { return tokens_[at_]; }
  const Token& ahead() const { return tokens_[at_ + 1 < tokens_.size() ? at_ + 1 : at_]; }
  Token take();
  std::size_t position() const { return at_; }
  /// Whether a token from position `begin` up to the current one is this name.
  bool has_name_since(std::size_t begin, std::string_view text) const;
  bool at_end() const { return current().kind == TokenKind::kEnd; }
  bool is_operator(std::string_view text) const { return is(TokenKind::kOperator, text); }
  bool is_name(std::string_view text) const { return is(TokenKind::kName, text); }
  bool is_one_of(std::initializer_list<std::string_view> names) const;
  bool skip_operator(std::string_view text);
  bool skip_name(std::string_view text);
  void expect_operator(std::string_view text);
  std::string expect_name();
  void expect_block_end();

  /// Throws Error with the template's name and a line, the current token's by default.
  [[noreturn]] void fail(const std::string& what) const { fail(current().line, what); }
  [[noreturn]] void fail(int line, const std::string& what) const;
  /// The current token for an error, in quotes where it has a text.
  std::string shown() const;

 private:
  bool is(TokenKind kind, std::string_view text) const { return current().kind == kind && current().text == text; }

  std::vector<Token> tokens_;
  std::string name_;
  std::size_t at_ = 0;
};

}  // namespace bezel::jinja
