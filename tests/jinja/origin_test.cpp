#include <gtest/gtest.h>

#include "bezel/jinja/template.h"

namespace bezel::jinja {
namespace {

// The rendered text with each run as [message|own text], {message|text that the template wrote for it} or text of none;
// a '!' marks tools' answers, a '*' what is inside {% generation %}.
std::string origins(const std::string& source, const io::Json& messages) {
  const io::Json variables = {{"messages", messages}};
  Context context;
  context.variables = &variables;
  const TracedText text = Template::parse(source, "t").render(context);
  std::string out;
  std::size_t begin = 0;
  for (const auto& [end, origin] : text.runs()) {
    const std::string part = text.bytes().substr(begin, end - begin);
    const std::string mark = std::string(origin.response ? "!" : "") + (origin.generation ? "*" : "");
    const std::string inner = std::to_string(origin.message) + mark + "|" + part;
    out += origin.message < 0 ? part : origin.own ? "[" + inner + "]" : "{" + inner + "}";
    begin = end;
  }
  return out;
}

const io::Json kChat = {{{"role", "user"}, {"content", " Hi "}}, {{"role", "assistant"}, {"content", "a<b>c"}}};

TEST(JinjaOrigin, TextOfALoopBelongsToItsMessage) {
  EXPECT_EQ(origins("<s>{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}\n\n{% endfor %}</s>", kChat),
            "<s>{0|<user>}[0|Hi]{0|\n\n}{1|<assistant>}[1|a<b>c]{1|\n\n}</s>");
  EXPECT_EQ(origins("{% for i in range(2) %}{% set m = messages[i] %}<{{ m.content[0] }}>{% endfor %}", kChat),
            "{0|<}[0| ]{0|>}{1|<}[1|a]{1|>}");
}

TEST(JinjaOrigin, OwnTextKeepsItsOriginThroughMethodsAndMacros) {
  EXPECT_EQ(origins("{% macro f(t) %}{% for p in t.split('b') %}({{ p | upper }}){% endfor %}{% endmacro %}"
                    "{% for m in messages[1:] %}{{ f(m.content) ~ m.content.replace('<b>', '-') }}{% endfor %}",
                    kChat),
            "{1|(}[1|A<]{1|)(}[1|>C]{1|)}[1|a]{1|-}[1|c]");
  EXPECT_EQ(
      origins("{% set first = messages[0].content %}{% for m in messages[1:] %}{{ first + m.content }}{% endfor %}",
              kChat),
      "[0| Hi ][1|a<b>c]");
}

TEST(JinjaOrigin, ValuesOfAMessageAreItsOwnText) {
  const io::Json messages = {{{"role", "assistant"}, {"calls", {{"n", 1}, {"s", "x"}, {"l", {nullptr}}}}}};
  EXPECT_EQ(
      origins("{% for m in messages %}{{ m.calls | tojson }} {{ m.calls.n }}{{ m.calls.l }}{% endfor %}", messages),
      "{0|{\"}[0|n]{0|\": }[0|1]{0|, \"}[0|s]{0|\": \"}[0|x]{0|\", \"}[0|l]{0|\": [}[0|null]{0|]} }[0|1[None]]");
}

TEST(JinjaOrigin, AnswersOfToolsAreMarked) {
  const io::Json messages = {{{"role", "assistant"}, {"content", "x"}, {"tool_responses", {{{"r", "y"}}}}},
                             {{"role", "tool"}, {"content", "z"}}};
  EXPECT_EQ(origins("{% macro answer(name, text) %}<{{ name }}:{{ text }}>{% endmacro %}{% for m in messages %}"
                    "{% for r in m.tool_responses %}({{ r.r }}){% endfor %}"
                    "{% if loop.first %}{{ answer(m.content, messages[1].content) }}{% endif %};{% endfor %}",
                    messages),
            "{0!|(}[0!|y]{0!|)}{1!|<}[0!|x]{1!|:}[1!|z]{1!|>}{0|;}{1!|;}");
}

TEST(JinjaOrigin, GenerationIsMarked) {
  EXPECT_EQ(origins("{% for m in messages %}<{% generation %}{{ m.content }}.{% endgeneration %}>{% endfor %}",
                    {{{"role", "assistant"}, {"content", "x"}}}),
            "{0|<}[0*|x]{0*|.}{0|>}");
}

}  // namespace
}  // namespace bezel::jinja
