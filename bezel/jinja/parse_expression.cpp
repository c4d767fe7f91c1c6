#include "bezel/jinja/parse_expression.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>

#include "bezel/error.h"
#include "bezel/jinja/integer_text.h"

namespace bezel::jinja {
namespace {

constexpr int kMaxHeight = 500;

}  // namespace

/// Counts nested expressions for as long as it lives.
class Level {
 public:
  explicit Level(ExpressionParser& parser) : parser_(parser) {
    if (++parser_.depth_ > kMaxNesting)
      parser_.tokens_.fail("expressions are nested more than " + std::to_string(kMaxNesting) + " deep");
  }
  ~Level() { --parser_.depth_; }
  Level(const Level&) = delete;

 private:
  ExpressionParser& parser_;
};

using Form = Expression::Form;

ExpressionPtr ExpressionParser::make(Form form, int line) const {
  auto node = std::make_unique<Expression>();
  node->form = form;
  node->line = line;
  return node;
}

void ExpressionParser::count_height(Expression& node, const Expression& part) const {
  node.height = std::max(node.height, part.height + 1);
  if (node.height > kMaxHeight) tokens_.fail("an expression has more than " + std::to_string(kMaxHeight) + " levels");
}

void ExpressionParser::add(Expression& node, ExpressionPtr part) const {
  if (part != nullptr) count_height(node, *part);
  node.parts.push_back(std::move(part));
}

ExpressionPtr ExpressionParser::binary(ExpressionPtr left, ExpressionPtr right, std::string text, int line) const {
  auto node = make(text == "and" ? Form::kAnd : text == "or" ? Form::kOr : Form::kBinary, line);
  node->text = std::move(text);
  add(*node, std::move(left));
  add(*node, std::move(right));
  return node;
}

ExpressionPtr ExpressionParser::parse(bool with_conditional) {
  const Level level(*this);
  ExpressionPtr value = parse_or();
  while (with_conditional && tokens_.is_name("if")) {
    auto node = make(Form::kConditional, tokens_.take().line);
    add(*node, parse_or());
    add(*node, std::move(value));
    add(*node, tokens_.skip_name("else") ? parse() : nullptr);
    value = std::move(node);
  }
  return value;
}

ExpressionPtr ExpressionParser::parse_or() {
  ExpressionPtr left = parse_and();
  if (!tokens_.is_name("or")) return left;
  auto node = make(Form::kOr, left->line);
  add(*node, std::move(left));
  while (tokens_.skip_name("or")) add(*node, parse_and());
  return node;
}

ExpressionPtr ExpressionParser::parse_and() {
  ExpressionPtr left = parse_not();
  if (!tokens_.is_name("and")) return left;
  auto node = make(Form::kAnd, left->line);
  add(*node, std::move(left));
  while (tokens_.skip_name("and")) add(*node, parse_not());
  return node;
}

ExpressionPtr ExpressionParser::parse_not() {
  if (!tokens_.is_name("not")) return parse_compare();
  const Level level(*this);
  auto node = make(Form::kUnary, tokens_.current().line);
  node->text = tokens_.take().text;
  add(*node, parse_not());
  return node;
}

ExpressionPtr ExpressionParser::parse_compare() {
  auto node = make(Form::kCompare, tokens_.current().line);
  add(*node, parse_sum());
  while (true) {
    const Token& token = tokens_.current();
    const bool is_not_in =
        tokens_.is_name("not") && tokens_.ahead().kind == TokenKind::kName && tokens_.ahead().text == "in";
    const bool is_comparison =
        token.kind == TokenKind::kOperator && (token.text == "==" || token.text == "!=" || token.text == "<" ||
                                               token.text == "<=" || token.text == ">" || token.text == ">=");
    if (!is_not_in && !is_comparison && !tokens_.is_name("in")) break;
    if (is_not_in) tokens_.take();
    node->operators.push_back(is_not_in ? "not in" : token.text);
    tokens_.take();
    add(*node, parse_sum());
  }
  return node->operators.empty() ? std::move(node->parts[0]) : std::move(node);
}

ExpressionPtr ExpressionParser::parse_sum() {
  ExpressionPtr left = parse_concat();
  while (tokens_.is_operator("+") || tokens_.is_operator("-")) {
    const Token token = tokens_.take();
    left = binary(std::move(left), parse_concat(), token.text, token.line);
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_concat() {
  ExpressionPtr first = parse_product();
  if (!tokens_.is_operator("~")) return first;
  auto node = make(Form::kConcat, first->line);
  add(*node, std::move(first));
  while (tokens_.skip_operator("~")) add(*node, parse_product());
  return node;
}

ExpressionPtr ExpressionParser::parse_product() {
  ExpressionPtr left = parse_power();
  while (tokens_.is_operator("*") || tokens_.is_operator("/") || tokens_.is_operator("//") ||
         tokens_.is_operator("%")) {
    const Token token = tokens_.take();
    left = binary(std::move(left), parse_power(), token.text, token.line);
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_power() {
  ExpressionPtr left = parse_unary(true);
  while (tokens_.is_operator("**")) {
    const Token token = tokens_.take();
    left = binary(std::move(left), parse_unary(true), token.text, token.line);
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_unary(bool with_filter) {
  const Level level(*this);
  ExpressionPtr node;
  if (tokens_.is_operator("-") || tokens_.is_operator("+")) {
    node = make(Form::kUnary, tokens_.current().line);
    node->text = tokens_.take().text;
    add(*node, parse_unary(false));
  } else {
    node = parse_primary();
  }
  node = parse_postfix(std::move(node));
  return with_filter ? parse_filter_or_test(std::move(node)) : std::move(node);
}

ExpressionPtr ExpressionParser::parse_name() {
  const Token token = tokens_.take();
  const std::string& name = token.text;
  auto node = make(Form::kConstant, token.line);
  if (name == "true" || name == "True" || name == "false" || name == "False") {
    node->constant = Value::boolean(name[0] == 't' || name[0] == 'T');
  } else if (name == "none" || name == "None") {
    node->constant = Value::none();
  } else {
    node->form = Form::kName;
    node->text = name;
  }
  return node;
}

ExpressionPtr ExpressionParser::parse_number() {
  const Token token = tokens_.take();
  auto node = make(Form::kConstant, token.line);
  if (token.kind == TokenKind::kFloat) {
    double value = 0;
    const auto read = std::from_chars(token.text.data(), token.text.data() + token.text.size(), value);
    // from_chars leaves the value alone where it is too large or too small.
    node->constant = Value::real(read.ec == std::errc() ? value : std::strtod(token.text.c_str(), nullptr));
  } else {
    try {
      node->constant = read_integer(token.text);
    } catch (const Error& error) {
      tokens_.fail(token.line, error.what());
    }
  }
  return node;
}

ExpressionPtr ExpressionParser::parse_primary() {
  const Token& token = tokens_.current();
  if (token.kind == TokenKind::kName) return parse_name();
  if (token.kind == TokenKind::kInteger || token.kind == TokenKind::kFloat) return parse_number();
  if (token.kind == TokenKind::kString) {
    auto node = make(Form::kText, token.line);
    while (tokens_.current().kind == TokenKind::kString) node->text += tokens_.take().text;
    return node;
  }
  if (tokens_.is_operator("[")) return parse_list();
  if (tokens_.is_operator("{")) return parse_dict();
  if (!tokens_.skip_operator("(")) tokens_.fail("expected an expression, found " + tokens_.shown());
  if (tokens_.is_operator(")")) {
    auto node = make(Form::kTuple, tokens_.take().line);
    return node;
  }
  ExpressionPtr node = parse_tuple();
  tokens_.expect_operator(")");
  return node;
}

bool ExpressionParser::is_tuple_end(std::string_view stop) const {
  const TokenKind kind = tokens_.current().kind;
  return kind == TokenKind::kVariableEnd || kind == TokenKind::kBlockEnd || tokens_.is_operator(")") ||
         (!stop.empty() && tokens_.is_name(stop));
}

ExpressionPtr ExpressionParser::parse_tuple(bool with_conditional, std::string_view stop) {
  auto node = make(Form::kTuple, tokens_.current().line);
  bool is_tuple = false;
  while (!is_tuple_end(stop)) {
    add(*node, parse(with_conditional));
    if (!tokens_.skip_operator(",")) break;
    is_tuple = true;
  }
  if (is_tuple) return node;
  if (node->parts.empty()) tokens_.fail("expected an expression, found " + tokens_.shown());
  return std::move(node->parts[0]);
}

ExpressionPtr ExpressionParser::parse_target_item(bool with_namespace) {
  if (tokens_.skip_operator("(")) {
    ExpressionPtr inner = parse_target(with_namespace);
    tokens_.expect_operator(")");
    return inner;
  }
  const int line = tokens_.current().line;
  const std::string name = tokens_.expect_name();
  for (const char* constant : {"true", "false", "none", "True", "False", "None"})
    if (name == constant) tokens_.fail(line, "cannot assign to '" + name + "'");
  auto node = make(Form::kName, line);
  node->text = name;
  if (!with_namespace || !tokens_.skip_operator(".")) return node;
  auto reference = make(Form::kReference, line);
  reference->text = tokens_.expect_name();
  add(*reference, std::move(node));
  return reference;
}

ExpressionPtr ExpressionParser::parse_target(bool with_namespace, std::string_view stop) {
  const Level level(*this);
  auto node = make(Form::kTuple, tokens_.current().line);
  bool is_tuple = false;
  while (!is_tuple_end(stop) && !tokens_.is_operator("=")) {
    add(*node, parse_target_item(with_namespace));
    if (!tokens_.skip_operator(",")) break;
    is_tuple = true;
  }
  if (node->parts.empty()) tokens_.fail("expected a name to assign to, found " + tokens_.shown());
  return is_tuple ? std::move(node) : std::move(node->parts[0]);
}

ExpressionPtr ExpressionParser::parse_list() {
  auto node = make(Form::kList, tokens_.take().line);
  while (!tokens_.is_operator("]")) {
    add(*node, parse());
    if (!tokens_.skip_operator(",")) break;
  }
  tokens_.expect_operator("]");
  return node;
}

ExpressionPtr ExpressionParser::parse_dict() {
  auto node = make(Form::kDict, tokens_.take().line);
  while (!tokens_.is_operator("}")) {
    add(*node, parse());
    tokens_.expect_operator(":");
    add(*node, parse());
    if (!tokens_.skip_operator(",")) break;
  }
  tokens_.expect_operator("}");
  return node;
}

}  // namespace bezel::jinja
