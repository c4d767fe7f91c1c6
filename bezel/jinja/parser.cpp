#include "bezel/jinja/parser.h"

#include <algorithm>
#include <initializer_list>

#include "bezel/jinja/lexer.h"
#include "bezel/jinja/parse_expression.h"
#include "bezel/jinja/token_stream.h"

namespace bezel::jinja {
namespace {

using StatementForm = Statement::Form;
using StatementPtr = std::unique_ptr<Statement>;
using Names = std::initializer_list<std::string_view>;

StatementPtr make(StatementForm form, int line) {
  auto statement = std::make_unique<Statement>();
  statement->form = form;
  statement->line = line;
  return statement;
}

class Parser {
 public:
  Parser(std::string_view source, const std::string& name) : tokens_(tokenize(source, name), name) {}

  Body run() {
    Body body;
    while (!tokens_.at_end()) read_piece(body, {}, "");
    return body;
  }

 private:
  // Reads text, a {{ }} or a statement into `body`; false at a tag of `ends`, whose name is the current token then.
  bool read_piece(Body& body, Names ends, const std::string& opened) {
    const Token token = tokens_.take();
    if (token.kind == TokenKind::kData) {
      body.push_back(make(StatementForm::kData, token.line));
      body.back()->text = token.text;
    } else if (token.kind == TokenKind::kVariableBegin) {
      body.push_back(make(StatementForm::kPrint, token.line));
      body.back()->value = expressions_.parse_tuple();
      if (tokens_.current().kind != TokenKind::kVariableEnd) tokens_.fail("expected '}}', found " + tokens_.shown());
      tokens_.take();
    } else {
      if (tokens_.is_one_of(ends)) return false;
      read_statement(body, opened);
      tokens_.expect_block_end();
    }
    return true;
  }

  // Reads up to a tag of `ends`, whose name is the current token then. `opened` is the tag that they close.
  Body read_body(Names ends, const std::string& opened, int line) {
    tokens_.skip_operator(":");
    tokens_.expect_block_end();
    if (++depth_ > kMaxNesting) tokens_.fail("blocks are nested more than " + std::to_string(kMaxNesting) + " deep");
    Body body;
    do {
      if (tokens_.at_end())
        tokens_.fail(line, "{% " + opened + " %} has no end: expected {% " + std::string(*(ends.end() - 1)) + " %}");
    } while (read_piece(body, ends, opened));
    --depth_;
    return body;
  }

  Body read_whole_body(std::string_view end, const std::string& opened, int line) {
    Body body = read_body({end}, opened, line);
    tokens_.take();
    return body;
  }

  void read_statement(Body& body, const std::string& opened) {
    const Token tag = tokens_.current();
    if (tag.kind != TokenKind::kName) tokens_.fail("expected the name of a tag, found " + tokens_.shown());
    tokens_.take();
    const std::string& name = tag.text;
    if (name == "print") return read_print(body, tag.line);
    body.push_back(name == "if"           ? read_if(tag.line)
                   : name == "for"        ? read_for(tag.line)
                   : name == "set"        ? read_set(tag.line)
                   : name == "macro"      ? read_macro(tag.line)
                   : name == "call"       ? read_call(tag.line)
                   : name == "filter"     ? read_filter(tag.line)
                   : name == "with"       ? read_with(tag.line)
                   : name == "generation" ? read_generation(tag.line)
                   : name == "break"      ? read_loop_control(StatementForm::kBreak, tag.line)
                   : name == "continue"   ? read_loop_control(StatementForm::kContinue, tag.line)
                                          : nullptr);
    if (body.back() == nullptr) fail_unknown(tag, opened);
  }

  [[noreturn]] void fail_unknown(const Token& tag, const std::string& opened) const {
    constexpr std::string_view kFiles[] = {"include", "import", "from", "extends", "block"};
    if (std::find(std::begin(kFiles), std::end(kFiles), tag.text) != std::end(kFiles))
      tokens_.fail(tag.line, "{% " + tag.text + " %} is not supported: a chat template is one file");
    if (tag.text == "autoescape") tokens_.fail(tag.line, "{% autoescape %} is not supported");
    tokens_.fail(tag.line, "unknown tag '" + tag.text + "'" + (opened.empty() ? "" : " inside {% " + opened + " %}"));
  }

  void read_print(Body& body, int line) {
    while (tokens_.current().kind != TokenKind::kBlockEnd) {
      body.push_back(make(StatementForm::kPrint, line));
      body.back()->value = expressions_.parse();
      if (tokens_.current().kind != TokenKind::kBlockEnd) tokens_.expect_operator(",");
    }
  }

  StatementPtr read_if(int line) {
    auto node = make(StatementForm::kIf, line);
    while (true) {
      ExpressionPtr test = expressions_.parse_tuple(/*with_conditional=*/false);
      Body body = read_body({"elif", "else", "endif"}, "if", line);
      node->branches.emplace_back(std::move(test), std::move(body));
      const bool has_else = tokens_.is_name("else");
      const bool has_more = tokens_.is_name("elif");
      tokens_.take();
      if (has_more) continue;
      if (has_else) node->branches.emplace_back(nullptr, read_whole_body("endif", "else", line));
      return node;
    }
  }

  StatementPtr read_for(int line) {
    auto node = make(StatementForm::kFor, line);
    node->target = expressions_.parse_target(/*with_namespace=*/false, "in");
    if (!tokens_.skip_name("in")) tokens_.fail("expected 'in', found " + tokens_.shown());
    node->value = expressions_.parse_tuple(/*with_conditional=*/false, "recursive");
    if (tokens_.skip_name("if")) node->test = expressions_.parse();
    node->recursive = tokens_.skip_name("recursive");
    ++loops_;
    node->body = read_body({"else", "endfor"}, "for", line);
    --loops_;
    const bool has_else = tokens_.is_name("else");
    tokens_.take();
    if (has_else) node->else_body = read_whole_body("endfor", "else", line);
    return node;
  }

  StatementPtr read_set(int line) {
    auto node = make(StatementForm::kSet, line);
    node->target = expressions_.parse_target(/*with_namespace=*/true);
    if (tokens_.skip_operator("=")) {
      node->value = expressions_.parse_tuple();
      return node;
    }
    node->form = StatementForm::kSetBlock;
    node->value = expressions_.parse_filters(nullptr, /*inline_first=*/false);
    node->body = read_whole_body("endset", "set", line);
    return node;
  }

  void read_parameters(MacroDefinition& macro) {
    tokens_.expect_operator("(");
    while (!tokens_.is_operator(")")) {
      if (!macro.parameters.empty()) tokens_.expect_operator(",");
      macro.parameters.push_back(tokens_.expect_name());
      if (tokens_.skip_operator("=")) {
        macro.defaults.push_back(expressions_.parse());
      } else if (!macro.defaults.empty()) {
        tokens_.fail("a parameter without a default follows one that has a default");
      }
    }
    tokens_.expect_operator(")");
  }

  // Reads the body of a macro or call block, which is a function of its own: loops around it do not count.
  void read_function(MacroDefinition& macro, std::string_view end, const std::string& opened, int line) {
    const std::size_t begin = tokens_.position();
    const int loops = std::exchange(loops_, 0);
    macro.body = read_whole_body(end, opened, line);
    loops_ = loops;
    macro.uses_caller = tokens_.has_name_since(begin, "caller");
    macro.uses_varargs = tokens_.has_name_since(begin, "varargs");
    macro.uses_kwargs = tokens_.has_name_since(begin, "kwargs");
  }

  StatementPtr read_macro(int line) {
    auto macro = std::make_shared<MacroDefinition>();
    macro->name = tokens_.expect_name();
    read_parameters(*macro);
    read_function(*macro, "endmacro", "macro", line);
    auto node = make(StatementForm::kMacro, line);
    node->macro = std::move(macro);
    return node;
  }

  StatementPtr read_call(int line) {
    auto macro = std::make_shared<MacroDefinition>();
    macro->name = "caller";
    if (tokens_.is_operator("(")) read_parameters(*macro);
    auto node = make(StatementForm::kCall, line);
    node->value = expressions_.parse();
    if (node->value->form != Expression::Form::kCall) tokens_.fail(line, "{% call %} needs a call such as name(...)");
    read_function(*macro, "endcall", "call", line);
    node->macro = std::move(macro);
    return node;
  }

  StatementPtr read_filter(int line) {
    auto node = make(StatementForm::kFilter, line);
    node->value = expressions_.parse_filters(nullptr, /*inline_first=*/true);
    node->body = read_whole_body("endfilter", "filter", line);
    return node;
  }

  StatementPtr read_with(int line) {
    auto node = make(StatementForm::kWith, line);
    while (tokens_.current().kind != TokenKind::kBlockEnd) {
      if (!node->assignments.empty()) tokens_.expect_operator(",");
      ExpressionPtr target = expressions_.parse_target(/*with_namespace=*/false);
      tokens_.expect_operator("=");
      node->assignments.emplace_back(std::move(target), expressions_.parse());
    }
    node->body = read_whole_body("endwith", "with", line);
    return node;
  }

  StatementPtr read_generation(int line) {
    auto node = make(StatementForm::kGeneration, line);
    const int loops = std::exchange(loops_, 0);
    node->body = read_whole_body("endgeneration", "generation", line);
    loops_ = loops;
    return node;
  }

  StatementPtr read_loop_control(StatementForm form, int line) {
    if (loops_ == 0)
      tokens_.fail(line, form == StatementForm::kBreak ? "'break' outside of a loop" : "'continue' outside of a loop");
    return make(form, line);
  }

  TokenStream tokens_;
  ExpressionParser expressions_{tokens_};
  int depth_ = 0;
  int loops_ = 0;
};

}  // namespace

Body parse_template(std::string_view source, const std::string& name) { return Parser(source, name).run(); }

}  // namespace bezel::jinja
