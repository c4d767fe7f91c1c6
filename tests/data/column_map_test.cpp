#include "bezel/data/column_map.h"

#include <gtest/gtest.h>

#include "support/temp_folder.h"

namespace bezel::data {
namespace {

using io::Json;

Json mapped(const std::string& line, const ColumnMap& map) {
  const Json json = io::parse_json(line, "d.jsonl:7");
  return apply_column_map(io::JsonView(json, "d.jsonl:7"), map);
}

TEST(ColumnMap, NamesOfTheDataBecomeThoseOfASample) {
  const ColumnMap map{.columns = {{"instruction", "question"}, {"output", "reply"}, {"input", "context"}}};
  EXPECT_EQ(mapped(R"({"question": "q", "reply": "a", "id": 3})", map),
            Json::parse(R"({"instruction": "q", "output": "a", "id": 3})"));
  EXPECT_EQ(mapped(R"({"question": "q", "reply": "a", "context": "c", "text": "other"})", map),
            Json::parse(R"({"instruction": "q", "output": "a", "input": "c"})"))
      << "a column that would make another form is left out";
  EXPECT_EQ(mapped(R"({"messages": [], "pics": ["a.png"]})", {.columns = {{"images", "pics"}}}),
            Json::parse(R"({"images": ["a.png"], "messages": []})"))
      << "unless the map names none";
}

TEST(ColumnMap, AMissingColumnIsNamed) {
  const std::string message = test::error_of([] {
    mapped(R"({"a": 1, "b": 2})", {.columns = {{"messages", "dialog"}}});
  });
  EXPECT_EQ(message.find("d.jsonl:7: no column 'dialog'"), 0u) << message;
  EXPECT_TRUE(test::says(message, "'messages'"));
  EXPECT_TRUE(test::says(message, "{a, b}"));
}

TEST(ColumnMap, BezelsOwnNamesAskForNothing) {
  const ColumnMap map{.columns = {{"messages", "messages"}}};
  EXPECT_EQ(mapped(R"({"prompt": "q", "completion": "a"})", map), Json::parse(R"({"prompt": "q", "completion": "a"})"));
  EXPECT_EQ(mapped(R"({"prompt": "q", "messages": []})", map), Json::parse(R"({"messages": []})"));
}

TEST(ColumnMap, KeysAndRolesOfMessages) {
  const ColumnMap map{.columns = {{"messages", "dialog"}},
                      .message_keys = {{"role", "speaker"}, {"content", "said"}},
                      .roles = {{"customer", "user"}, {"agent", "assistant"}}};
  EXPECT_EQ(
      mapped(R"({"dialog": [{"speaker": "customer", "said": "hi"}, {"speaker": "agent", "said": "yes"}]})", map),
      Json::parse(R"({"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]})"));
  EXPECT_EQ(mapped(R"({"dialog": "[{\"speaker\": \"customer\", \"said\": \"hi\"}]"})", map),
            Json::parse(R"({"messages": [{"role": "user", "content": "hi"}]})"))
      << "a list as JSON in a text";
}

TEST(ColumnMap, TurnsOfShareGptStayTurns) {
  const ColumnMap axolotl{.columns = {{"messages", "conversations"}},
                          .message_keys = {{"role", "from"}, {"content", "value"}}};
  EXPECT_EQ(mapped(R"({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]})", axolotl),
            Json::parse(R"({"conversations": [{"role": "human", "content": "q"}, {"role": "gpt", "content": "a"}]})"));
  EXPECT_EQ(mapped(R"({"chat": [{"from": "human", "value": "q"}]})", {.columns = {{"messages", "chat"}}}),
            Json::parse(R"({"conversations": [{"from": "human", "value": "q"}]})"));
}

TEST(ColumnMap, TwoMapsAreToldApart) {
  const ColumnMap one{.columns = {{"text", "a"}}}, other{.columns = {{"text", "b"}}}, roles{.roles = {{"text", "a"}}};
  EXPECT_NE(to_text(one), to_text(other));
  EXPECT_NE(to_text(one), to_text(roles));
}

}  // namespace
}  // namespace bezel::data
