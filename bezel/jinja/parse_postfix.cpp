// What follows an operand: attributes, subscripts, calls, filters and tests.
#include "bezel/jinja/integer_text.h"
#include "bezel/jinja/parse_expression.h"

namespace bezel::jinja {
using Form = Expression::Form;

ExpressionPtr ExpressionParser::parse_postfix(ExpressionPtr node) {
  while (true) {
    if (tokens_.is_operator(".") || tokens_.is_operator("[")) {
      node = parse_subscript(std::move(node));
    } else if (tokens_.is_operator("(")) {
      node = parse_call(std::move(node));
    } else {
      return node;
    }
  }
}

ExpressionPtr ExpressionParser::parse_filter_or_test(ExpressionPtr node) {
  while (true) {
    if (tokens_.is_operator("|")) {
      node = parse_filters(std::move(node), false);
    } else if (tokens_.is_name("is")) {
      node = parse_test(std::move(node));
    } else if (tokens_.is_operator("(")) {
      node = parse_call(std::move(node));
    } else {
      return node;
    }
  }
}

ExpressionPtr ExpressionParser::parse_subscript(ExpressionPtr value) {
  const Token token = tokens_.take();
  if (token.text == ".") {
    if (tokens_.current().kind == TokenKind::kInteger) {
      auto node = make(Form::kItem, token.line);
      add(*node, std::move(value));
      add(*node, parse_number());
      return node;
    }
    auto node = make(Form::kAttribute, token.line);
    node->text = tokens_.expect_name();
    add(*node, std::move(value));
    return node;
  }
  auto node = make(Form::kItem, token.line);
  add(*node, std::move(value));
  auto keys = make(Form::kTuple, token.line);
  while (!tokens_.is_operator("]")) {
    add(*keys, parse_subscripted());
    if (!tokens_.is_operator("]")) tokens_.expect_operator(",");
  }
  tokens_.expect_operator("]");
  if (keys->parts.size() == 1) {
    add(*node, std::move(keys->parts[0]));
    return node;
  }
  for (const ExpressionPtr& key : keys->parts)
    if (key->form == Form::kSlice) tokens_.fail(token.line, "a subscript with several slices is not supported");
  add(*node, std::move(keys));
  return node;
}

ExpressionPtr ExpressionParser::parse_subscripted() {
  const int line = tokens_.current().line;
  ExpressionPtr first = tokens_.is_operator(":") ? nullptr : parse();
  if (!tokens_.skip_operator(":")) return first;
  auto node = make(Form::kSlice, line);
  const auto bound = [&]() -> ExpressionPtr {
    if (tokens_.is_operator(":") || tokens_.is_operator("]") || tokens_.is_operator(",")) return nullptr;
    return parse();
  };
  add(*node, std::move(first));
  add(*node, bound());
  add(*node, tokens_.skip_operator(":") ? bound() : nullptr);
  return node;
}

void ExpressionParser::parse_arguments(Expression& call) {
  const int line = tokens_.current().line;
  tokens_.expect_operator("(");
  const auto check = [&](bool is_valid) {
    if (!is_valid) tokens_.fail(line, "the arguments of a call are in the wrong order");
  };
  while (!tokens_.is_operator(")")) {
    if (tokens_.skip_operator("*")) {
      check(call.spread == nullptr && call.spread_named == nullptr);
      call.spread = parse();
      count_height(call, *call.spread);
    } else if (tokens_.skip_operator("**")) {
      check(call.spread_named == nullptr);
      call.spread_named = parse();
      count_height(call, *call.spread_named);
    } else if (tokens_.current().kind == TokenKind::kName && tokens_.ahead().kind == TokenKind::kOperator &&
               tokens_.ahead().text == "=") {
      check(call.spread_named == nullptr);
      std::string name = tokens_.take().text;
      tokens_.take();
      call.named.emplace_back(std::move(name), parse());
      count_height(call, *call.named.back().second);
    } else {
      check(call.spread == nullptr && call.spread_named == nullptr && call.named.empty());
      add(call, parse());
    }
    if (!tokens_.skip_operator(",")) break;
  }
  tokens_.expect_operator(")");
}

ExpressionPtr ExpressionParser::parse_call(ExpressionPtr callee) {
  auto node = make(Form::kCall, tokens_.current().line);
  add(*node, std::move(callee));
  parse_arguments(*node);
  return node;
}

std::string ExpressionParser::dotted_name() {
  std::string name = tokens_.expect_name();
  while (tokens_.skip_operator(".")) name += "." + tokens_.expect_name();
  return name;
}

ExpressionPtr ExpressionParser::parse_filters(ExpressionPtr value, bool inline_first) {
  while (inline_first || tokens_.is_operator("|")) {
    if (!inline_first) tokens_.take();
    inline_first = false;
    auto node = make(Form::kFilter, tokens_.current().line);
    node->text = dotted_name();
    add(*node, std::move(value));
    if (tokens_.is_operator("(")) parse_arguments(*node);
    value = std::move(node);
  }
  return value;
}

ExpressionPtr ExpressionParser::parse_test(ExpressionPtr value) {
  const int line = tokens_.take().line;
  const bool negated = tokens_.skip_name("not");
  auto node = make(Form::kTest, line);
  node->text = dotted_name();
  add(*node, std::move(value));
  const TokenKind kind = tokens_.current().kind;
  const bool has_operand = kind == TokenKind::kName || kind == TokenKind::kString || kind == TokenKind::kInteger ||
                           kind == TokenKind::kFloat || tokens_.is_operator("[") || tokens_.is_operator("{");
  if (tokens_.is_operator("(")) {
    parse_arguments(*node);
  } else if (has_operand && !tokens_.is_one_of({"else", "or", "and"})) {
    if (tokens_.is_name("is")) tokens_.fail("tests cannot follow each other: write 'and' between them");
    add(*node, parse_postfix(parse_primary()));
  }
  if (!negated) return node;
  auto inverse = make(Form::kUnary, line);
  inverse->text = "not";
  add(*inverse, std::move(node));
  return inverse;
}

}  // namespace bezel::jinja
