#include "bezel/jinja/lexer.h"

#include <gtest/gtest.h>

#include "bezel/error.h"

namespace bezel::jinja {
namespace {

// Tokens as "<letter>:<text>", with '|' between them and without the end.
std::string tokens_of(const std::string& source) {
  std::string out;
  for (const Token& token : tokenize(source, "chat_template.jinja")) {
    if (token.kind == TokenKind::kEnd) break;
    if (!out.empty()) out += '|';
    out += "dbBvVnsifo"[static_cast<int>(token.kind)];
    if (!token.text.empty()) out += ":" + token.text;
  }
  return out;
}

std::string error_of(const std::string& source) {
  try {
    tokenize(source, "chat_template.jinja");
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(JinjaLexer, BlocksTakeIndentAndOneNewline) {
  EXPECT_EQ(tokens_of("a\n  {% x %}\n\nb"), "d:a\n|b|n:x|B|d:\nb");
  EXPECT_EQ(tokens_of("  {% x %}\n  {% y %}"), "b|n:x|B|b|n:y|B");
  EXPECT_EQ(tokens_of("a  {% x %}"), "d:a  |b|n:x|B");
  EXPECT_EQ(tokens_of("  {{ x }}\n"), "d:  |v|n:x|V");
  EXPECT_EQ(tokens_of("  {{ x }}\n\n"), "d:  |v|n:x|V|d:\n");
}

TEST(JinjaLexer, SignsRule) {
  EXPECT_EQ(tokens_of("a \n {%- x -%} \n b"), "d:a|b|n:x|B|d:b");
  EXPECT_EQ(tokens_of("a\n  {%+ x +%}\nb"), "d:a\n  |b|n:x|B|d:\nb");
  EXPECT_EQ(tokens_of("a\u00a0\u3000{{- x -}}\u2028b"), "d:a|v|n:x|V|d:b");
  EXPECT_EQ(tokens_of("{{-1}}"), "v|i:1|V");
}

TEST(JinjaLexer, CommentsAndRawLeaveTheirText) {
  EXPECT_EQ(tokens_of("a {#- {{ x }} -#} b"), "d:a|d:b");
  EXPECT_EQ(tokens_of("a\n  {# c #}\nb"), "d:a\n|d:b");
  EXPECT_EQ(tokens_of("{% raw %}{{ x }}{% endraw %}"), "d:{{ x }}");
  EXPECT_EQ(tokens_of("{%- raw -%} {% x %} {%- endraw -%} b"), "d:{% x %}|d:b");
}

TEST(JinjaLexer, NumbersNamesAndOperators) {
  EXPECT_EQ(tokens_of("{{ 1_000 + 0x_fF - 1.5e-3 }}"), "v|i:1000|o:+|i:0xfF|o:-|f:1.5e-3|V");
  EXPECT_EQ(tokens_of("{{ 1e5 1.foo a.0 }}"), "v|f:1e5|i:1|o:.|n:foo|n:a|o:.|i:0|V");
  EXPECT_EQ(tokens_of("{{ a//b**c!=d>=e~f }}"), "v|n:a|o://|n:b|o:**|n:c|o:!=|n:d|o:>=|n:e|o:~|n:f|V");
  EXPECT_EQ(tokens_of("{{ {'a': {}}}}"), "v|o:{|s:a|o::|o:{|o:}|o:}|V");
}

TEST(JinjaLexer, StringsAreReadAsPythonReadsThem) {
  EXPECT_EQ(tokens_of(R"({{ 'a\n\t\'\\\x41\u00e9\101\q' }})"), "v|s:a\n\t'\\A\u00e9A\\q|V");
  EXPECT_EQ(tokens_of("{{ \"%}}}\" ~ 'é' }}"), "v|s:%}}}|o:~|s:é|V");
  EXPECT_EQ(tokens_of("{{ '\\é' }}"), "v|s:\\xe9|V");
}

TEST(JinjaLexer, NewlinesOfEverySystemAreOne) { EXPECT_EQ(tokens_of("a\r\nb\rc\n"), "d:a\nb\nc"); }

TEST(JinjaLexer, TokensKnowTheirLine) {
  const auto tokens = tokenize("a\n \n{%- x\n y -%}\n\n{{ z }}", "t");
  ASSERT_EQ(tokens.size(), 9u);
  EXPECT_EQ(tokens[0].line, 1);
  EXPECT_EQ(tokens[2].line, 3);
  EXPECT_EQ(tokens[3].line, 4);
  EXPECT_EQ(tokens[6].text, "z");
  EXPECT_EQ(tokens[6].line, 6);
}

TEST(JinjaLexer, BadTemplatesNameTheirLine) {
  EXPECT_EQ(error_of("a\n{{ ( ] }}"), "chat_template.jinja: line 2: unexpected ']' in a tag: expected ')'");
  EXPECT_EQ(error_of("a\n\n{{ ) }}"), "chat_template.jinja: line 3: unexpected ')' in a tag: nothing is open");
  EXPECT_EQ(error_of("a\n{{ x ! y }}"), "chat_template.jinja: line 2: unexpected '!' in a tag");
  EXPECT_EQ(error_of("{{ 'x }}"), "chat_template.jinja: line 1: a string has no end: expected '");
  EXPECT_EQ(error_of("{{ \u00e9 }}"), "chat_template.jinja: line 1: unexpected '\u00e9' in a tag: names are ASCII");
  EXPECT_EQ(error_of("\n{# x"), "chat_template.jinja: line 2: a comment has no end: expected '#}'");
  EXPECT_EQ(error_of("{% raw %} x"), "chat_template.jinja: line 1: a raw block has no end: expected '{% endraw %}'");
  EXPECT_EQ(error_of("a\n\xff"), "chat_template.jinja: line 2: the template is not UTF-8");
  EXPECT_EQ(error_of("{{ '\\ud800' }}"), "chat_template.jinja: line 1: escape in a string is not a character");
  EXPECT_EQ(error_of("{{ '\\x4' }}"),
            "chat_template.jinja: line 1: truncated escape in a string: expected 2 hexadecimal digits");
}

}  // namespace
}  // namespace bezel::jinja
