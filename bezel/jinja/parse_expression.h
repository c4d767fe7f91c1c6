#pragma once

#include <string_view>

#include "bezel/jinja/ast.h"
#include "bezel/jinja/token_stream.h"

namespace bezel::jinja {

/// How deep expressions, and blocks, may be nested in a template.
inline constexpr int kMaxNesting = 100;

/// Reads expressions of a template with jinja2's precedence.
class ExpressionParser {
 public:
  explicit ExpressionParser(TokenStream& tokens) : tokens_(tokens) {}

  ExpressionPtr parse(bool with_conditional = true);
  /// Expressions with commas between; `stop` is a name that ends them.
  ExpressionPtr parse_tuple(bool with_conditional = true, std::string_view stop = "");
  /// What a set or for statement assigns to: a name, names with commas between, or where allowed namespace attributes.
  ExpressionPtr parse_target(bool with_namespace, std::string_view stop = "");
  /// `| name(...)` as often as it follows; the first one without its bar where `inline_first` is set.
  ExpressionPtr parse_filters(ExpressionPtr value, bool inline_first);

 private:
  friend class Level;

  ExpressionPtr make(Expression::Form form, int line) const;
  ExpressionPtr parse_or();
  ExpressionPtr parse_and();
  ExpressionPtr parse_not();
  ExpressionPtr parse_compare();
  ExpressionPtr parse_sum();
  ExpressionPtr parse_concat();
  ExpressionPtr parse_product();
  ExpressionPtr parse_power();
  ExpressionPtr parse_unary(bool with_filter);
  ExpressionPtr parse_primary();
  ExpressionPtr parse_name();
  ExpressionPtr parse_number();
  ExpressionPtr parse_list();
  ExpressionPtr parse_dict();
  ExpressionPtr parse_postfix(ExpressionPtr node);
  ExpressionPtr parse_filter_or_test(ExpressionPtr node);
  ExpressionPtr parse_subscript(ExpressionPtr node);
  ExpressionPtr parse_subscripted();
  ExpressionPtr parse_call(ExpressionPtr node);
  ExpressionPtr parse_test(ExpressionPtr node);
  void parse_arguments(Expression& call);
  std::string dotted_name();
  bool is_tuple_end(std::string_view stop) const;
  ExpressionPtr parse_target_item(bool with_namespace);
  ExpressionPtr binary(ExpressionPtr left, ExpressionPtr right, std::string text, int line) const;
  /// Appends an operand, which may be null.
  void add(Expression& node, ExpressionPtr part) const;
  void count_height(Expression& node, const Expression& part) const;

  TokenStream& tokens_;
  int depth_ = 0;
};

}  // namespace bezel::jinja
