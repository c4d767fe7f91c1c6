#include "bezel/jinja/template.h"

#include <gtest/gtest.h>

#include "bezel/error.h"

namespace bezel::jinja {
namespace {

std::string render(const std::string& source, const io::Json& variables = io::Json::object()) {
  Context context;
  context.variables = &variables;
  context.now = [] {
    std::tm now{};
    now.tm_year = 126;
    now.tm_mon = 6;
    now.tm_mday = 9;
    return now;
  };
  return Template::parse(source, "chat_template.jinja").render(context).bytes();
}

std::string error_of(const std::string& source, const io::Json& variables = io::Json::object()) {
  try {
    render(source, variables);
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

// Expected texts are what Python prints for the same values.
TEST(JinjaTemplate, PrintsValuesAsPythonDoes) {
  EXPECT_EQ(render("{{ none }} {{ true }} {{ 1.0 }} {{ 1e-7 }} {{ 1e16 }} {{ 1e15 }} {{ 0.0001 }} {{ 1e400 }}"),
            "None True 1.0 1e-07 1e+16 1000000000000000.0 0.0001 inf");
  EXPECT_EQ(render("{{ [1, 'a', \"it's\", (2,), {'k': none}] }}"), R"([1, 'a', "it's", (2,), {'k': None}])");
  EXPECT_EQ(render("{{ 123456789012345678901234567890 }} {{ -0x1F }}"), "123456789012345678901234567890 -31");
  EXPECT_EQ(render("{{ [\"a\\n\\t\\u00e9\\u200b\"] }}"), "['a\\n\\t\u00e9\\u200b']");
  EXPECT_EQ(render("{{ missing }}|{{ [missing] }}"), "|[Undefined]");
}

TEST(JinjaTemplate, ArithmeticRoundsTowardsMinusInfinity) {
  EXPECT_EQ(render("{{ 7 // -2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** -1 }} {{ 2 ** 10 }} {{ -7.5 // 2 }}"),
            "-4 2 3.5 0.5 1024 -4.0");
  EXPECT_EQ(render("{{ 1 ~ (2 + 3) }}{{ '|' }}{{ 'ab' * 2 }} {{ [1] + [2] }}"), "15|abab [1, 2]");
  EXPECT_EQ(error_of("{{ 9223372036854775807 + 1 }}"),
            "chat_template.jinja: line 1: arithmetic on integers beyond 64 bits is not supported");
}

TEST(JinjaTemplate, ComparisonsChain) {
  EXPECT_EQ(render("{{ 1 < 2 < 3 }} {{ 3 > 2 > 2 }} {{ not 1 in [2] }} {{ 1 == 1.0 == true }}"),
            "True False True True");
}

TEST(JinjaTemplate, LoopsKnowTheirPlace) {
  EXPECT_EQ(
      render("{% for x in 'abc' %}{{ loop.index }}{{ x }}{{ loop.previtem }}{{ ',' if not loop.last }}{% endfor %}"),
      "1a,2ba,3cb");
  EXPECT_EQ(render("{% for x in [] %}x{% else %}none{% endfor %}"), "none");
  EXPECT_EQ(render("{% for x in range(6) if x is odd %}{{ x }}/{{ loop.length }} {% endfor %}"), "1/3 3/3 5/3 ");
  EXPECT_EQ(render("{% for x in range(9) %}{% if x == 1 %}{% continue %}{% elif x == 3 %}{% break %}{% endif %}{{ x }}"
                   "{% endfor %}"),
            "02");
  EXPECT_EQ(render("{% for x in [1, [2, [3]]] recursive %}{{ loop(x) if x is iterable else x }}{{ loop.depth }};"
                   "{% endfor %}"),
            "11;22;33;2;1;");
}

TEST(JinjaTemplate, SetStaysInsideOfALoopAndNamespacesLeaveIt) {
  EXPECT_EQ(render("{% set x = 1 %}{% set n = namespace(x=1) %}{% for i in [2] %}{% set x = i %}{% set n.x = i %}"
                   "{% endfor %}{{ x }}{{ n.x }}"),
            "12");
  EXPECT_EQ(render("{% if true %}{% set x = 1 %}{% endif %}{{ x }}"), "1");
}

TEST(JinjaTemplate, MacrosTakeDefaultsCallersAndTheRest) {
  EXPECT_EQ(render("{% macro f(a, b=a) %}{{ a }}{{ b }}{{ varargs }}{% endmacro %}{{ f(1) }} {{ f(1, 2, 3) }}"),
            "11() 12(3,)");
  EXPECT_EQ(render("{% macro f() %}<{{ caller(1) }}>{% endmacro %}{% call(x) f() %}{{ x + 1 }}{% endcall %}"), "<2>");
  EXPECT_EQ(render("{% macro f(n) %}{{ n }}{{ f(n - 1) if n }}{% endmacro %}{{ f(2) }}"), "210");
}

TEST(JinjaTemplate, SubscriptsFallBackToAttributes) {
  const io::Json variables = {{"d", {{"items", 1}}}, {"o", io::Json::object()}};
  EXPECT_EQ(render("{{ d['items'] }}{{ d.items() | list }}{{ o['items'] is callable }}{{ o.x is defined }}", variables),
            "1[('items', 1)]TrueFalse");
}

TEST(JinjaTemplate, TheSandboxKeepsValuesAsTheyAre) {
  EXPECT_EQ(error_of("{{ [].append(1) }}"),
            "chat_template.jinja: line 1: templates may not change a list with .append()");
  EXPECT_EQ(error_of("{{ ''.__class__.mro() }}"),
            "chat_template.jinja: line 1: templates may not use the attribute '__class__'");
}

TEST(JinjaTemplate, ToJsonIsJsonDumps) {
  EXPECT_EQ(render("{{ {'b': [1, none, 1e-7], 'a': \"\u00e9'\\n\"} | tojson }}"),
            "{\"b\": [1, null, 1e-07], \"a\": \"\u00e9'\\n\"}");
  EXPECT_EQ(render("{{ {'b': 1, 'a': {}} | tojson(indent=1, sort_keys=true) }}"), "{\n \"a\": {},\n \"b\": 1\n}");
  EXPECT_EQ(render("{{ '\U0001f600' | tojson(ensure_ascii=true) }}"), "\"\\ud83d\\ude00\"");
}

TEST(JinjaTemplate, SafeTextEscapesWhatIsAddedToIt) {
  EXPECT_EQ(render("{{ '<a>' + ('<b>' | safe) }} {{ '<a>' ~ ('<b>' | safe) }}"), "&lt;a&gt;<b> <a><b>");
}

TEST(JinjaTemplate, TheClockIsGiven) { EXPECT_EQ(render("{{ strftime_now('%d %b %Y') }}"), "09 Jul 2026"); }

TEST(JinjaTemplate, ErrorsNameTheLine) {
  EXPECT_EQ(error_of("a\n{{ x.y }}"), "chat_template.jinja: line 2: 'x' is undefined");
  EXPECT_EQ(error_of("\n\n{{ raise_exception('roles must alternate') }}"),
            "chat_template.jinja: line 3: the template refuses the chat: roles must alternate");
  EXPECT_EQ(error_of("{% if x %}"), "chat_template.jinja: line 1: {% if %} has no end: expected {% endif %}");
  EXPECT_EQ(error_of("{% for x in y %}\n{% endif %}"),
            "chat_template.jinja: line 2: unknown tag 'endif' inside {% for %}");
  EXPECT_EQ(error_of("{% include 'x' %}"),
            "chat_template.jinja: line 1: {% include %} is not supported: a chat template is one file");
  EXPECT_EQ(error_of("{{ 'a' | nothing }}"), "chat_template.jinja: line 1: there is no filter 'nothing'");
  EXPECT_EQ(error_of("{{ [1] | random }}"), "chat_template.jinja: line 1: the filter 'random' is not supported");
  EXPECT_EQ(error_of("{{ (1, }}"), "chat_template.jinja: line 1: unexpected '}' in a tag: expected ')'");
  EXPECT_EQ(error_of("{% set true = 1 %}"), "chat_template.jinja: line 1: cannot assign to 'true'");
}

}  // namespace
}  // namespace bezel::jinja
