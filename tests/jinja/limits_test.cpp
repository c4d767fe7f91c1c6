#include <gtest/gtest.h>

#include "bezel/error.h"
#include "bezel/jinja/template.h"

namespace bezel::jinja {
namespace {

std::string error_of(const std::string& source) {
  Context context;
  context.limits = {.max_steps = 200'000, .max_text_bytes = 1u << 20, .max_depth = 300};
  try {
    Template::parse(source, "t").render(context);
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

constexpr const char* kSteps = "t: line 1: the template takes more than 200000 steps";
constexpr const char* kBytes = "t: line 1: the template makes a text of more than 1048576 bytes";

TEST(JinjaLimits, LoopsEnd) {
  EXPECT_EQ(error_of("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"), kSteps);
  EXPECT_EQ(error_of("{{ range(99999) | map('string') | list | join | length }}{{ range(99999) | sum }}"), kSteps);
  EXPECT_EQ(error_of("{{ range(100001) }}"), "t: line 1: range() gives more than 100000 numbers");
}

TEST(JinjaLimits, TextsAreBounded) {
  EXPECT_EQ(error_of("{{ 'ab' * 999999999999 }}"), kBytes);
  EXPECT_EQ(error_of("{{ 'a' | indent(999999999999) }}"), kBytes);
  EXPECT_EQ(error_of("{{ 'a' | center(999999999999) }}"), kBytes);
  EXPECT_EQ(error_of("{{ ('a' * 9999).replace('a', 'b' * 9999) }}"), kBytes);
  EXPECT_EQ(error_of("{{ [0] * 999999999999 }}"), kBytes);
  EXPECT_EQ(error_of("{{ '%99999d' % 1 }}"), "t: line 1: a width or precision in a format is more than 10000");
}

TEST(JinjaLimits, CallsAndValuesHaveADepth) {
  EXPECT_EQ(error_of("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"),
            "t: line 1: calls and loops of the template are nested more than 300 deep");
  EXPECT_EQ(error_of("{% set n = namespace(x=[]) %}{% for i in range(999) %}{% set n.x = [n.x] %}{% endfor %}"),
            "t: line 1: lists and dicts are nested more than 500 deep");
  EXPECT_EQ(error_of("{% set n = namespace(x=[1]) %}{% for i in range(99) %}{% set n.x = [n.x, n.x] %}{% endfor %}"),
            "t: line 1: a list or dict holds more than 4194304 values");
  EXPECT_EQ(
      error_of("{% set n = namespace(x=[]) %}{% for i in range(999) %}{% set n.x = n.x | map('string') %}{% endfor %}"),
      "t: line 1: iterators are chained more than 200 deep");
}

TEST(JinjaLimits, TemplatesHaveADepth) {
  EXPECT_EQ(error_of("{{ " + std::string(200, '(') + "1" + std::string(200, ')') + " }}"),
            "t: line 1: expressions are nested more than 100 deep");
  std::string nested, sum = "1";
  for (int i = 0; i < 200; ++i) nested += "{% if x %}";
  for (int i = 0; i < 600; ++i) sum += "+1";
  EXPECT_EQ(error_of(nested), "t: line 1: blocks are nested more than 100 deep");
  EXPECT_EQ(error_of("{{ " + sum + " }}"), "t: line 1: an expression has more than 500 levels");
}

TEST(JinjaLimits, CyclesAreFreed) {
  // Leaks show in the sanitized build.
  EXPECT_EQ(error_of("{% set n = namespace() %}{% set n.n = n %}{% macro f() %}{% endmacro %}{% set n.f = f %}"
                     "{% for x in [1, 2] %}{{ '' if loop.changed(loop.changed) }}{% set n.loop = loop %}{% endfor %}"),
            "accepted");
}

}  // namespace
}  // namespace bezel::jinja
