#include "bezel/data/conversations.h"

#include <string>

#include <gtest/gtest.h>

#include "support/temp_folder.h"

namespace bezel::data {
namespace {

using test::error_of;
using test::says;

io::Json messages(const std::string& line) {
  const io::Json json = io::parse_json(line, "t.jsonl:4");
  const io::JsonView view(json, "t.jsonl:4");
  return json.contains("conversations") ? messages_of_conversations(view) : messages_of_instruction(view);
}

std::string failure(const std::string& line) {
  return error_of([&] { messages(line); });
}

TEST(Conversations, RolesOfEveryDialect) {
  const io::Json got = messages(R"({"conversations":[{"from":"system","value":"s"},{"from":"human","value":"q"},
      {"from":"gpt","value":"a"},{"role":"user","content":"q"},{"role":"assistant","content":"a"}]})");
  EXPECT_EQ(got.dump(), R"([{"role":"system","content":"s"},{"role":"user","content":"q"},)"
                        R"({"role":"assistant","content":"a"},{"role":"user","content":"q"},)"
                        R"({"role":"assistant","content":"a"}])");
}

TEST(Conversations, SystemOfTheLineComesFirstUnlessATurnHasOne) {
  EXPECT_EQ(messages(R"({"conversations":[{"from":"human","value":"q"}],"system":"s"})")[0]["content"], "s");
  const io::Json got = messages(R"({"conversations":[{"from":"system","value":"s"}],"system":"s"})");
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0]["content"], "s");
  EXPECT_TRUE(says(failure(R"({"conversations":[{"from":"system","value":"own"}],"system":"s"})"),
                   "t.jsonl:4: key 'system' stands beside"));
}

TEST(Conversations, TagsBecomePartsInOrder) {
  io::Json got = messages(R"({"conversations":[{"from":"human","value":"a<image>b<audio><image><video>"}]})");
  const io::Json plain = got;
  split_tags(got, {});
  EXPECT_EQ(got, plain);
  split_tags(got, {{true, true, true}});
  EXPECT_EQ(got[0]["content"].dump(), R"([{"type":"text","text":"a"},{"type":"image"},{"type":"text","text":"b"},)"
                                      R"({"type":"audio"},{"type":"image"},{"type":"video"}])");
}

TEST(Conversations, CallsAndAnswersArePaired) {
  const io::Json got = messages(R"({"conversations":[{"from":"human","value":"q"},
      {"from":"function_call","value":"[{\"name\":\"f\",\"arguments\":{}},{\"name\":\"g\",\"arguments\":{}}]"},
      {"from":"observation","value":"1"},{"from":"observation","value":"2"},{"from":"gpt","value":"a"}]})");
  EXPECT_EQ(got[1]["tool_calls"].size(), 2u);
  EXPECT_EQ(got[2].dump(), R"({"role":"tool","content":"1","name":"f"})");
  EXPECT_EQ(got[3].dump(), R"({"role":"tool","content":"2","name":"g"})");
}

TEST(Conversations, TrainOfATurnIsKept) {
  EXPECT_EQ(messages(R"({"conversations":[{"from":"gpt","value":"a","train":false}]})")[0]["train"], false);
}

TEST(Conversations, ErrorsNameLineAndTurn) {
  EXPECT_TRUE(says(failure(R"({"conversations":"x"})"), "t.jsonl:4: key 'conversations'"));
  EXPECT_TRUE(says(failure(R"({"conversations":[{"from":"human","value":"q"},{"from":"robot","value":"a"}]})"),
                   "t.jsonl:4: message 1: from 'robot'"));
  EXPECT_TRUE(says(failure(R"({"conversations":[{"value":"q"}]})"), "from"));
  EXPECT_TRUE(says(failure(R"({"conversations":[{"from":"human"}]})"), "value"));
  EXPECT_TRUE(says(failure(R"({"conversations":[{"from":"human","value":3}]})"), "t.jsonl:4: key"));
  EXPECT_TRUE(says(failure(R"({"conversations":[{"from":"function_call","value":"call f"}]})"),
                   "t.jsonl:4: message 0: its tool calls: not valid JSON"));
  EXPECT_TRUE(says(failure(R"({"conversations":[{"from":"function_call","value":"[]"}]})"), "message 0"));
  EXPECT_TRUE(says(failure(R"({"conversations":[{"from":"function_call","value":"{\"arguments\":{}}"}]})"), "name"));
}

TEST(Instructions, HistoryComesBeforeTheRequest) {
  const io::Json got = messages(R"({"instruction":"c","input":"x","output":"d","history":[["a","b"]],"system":"s"})");
  EXPECT_EQ(got.dump(), R"([{"role":"system","content":"s"},{"role":"user","content":"a"},)"
                        R"({"role":"assistant","content":"b"},{"role":"user","content":"c\n\nx"},)"
                        R"({"role":"assistant","content":"d"}])");
}

TEST(Instructions, ErrorsNameTheKey) {
  EXPECT_TRUE(says(failure(R"({"instruction":1,"output":"d"})"), "t.jsonl:4: key 'instruction'"));
  EXPECT_TRUE(says(failure(R"({"instruction":"c","output":"d","history":[["a"]]})"), "a pair of request and answer"));
  EXPECT_TRUE(says(failure(R"({"instruction":"c","output":"d","history":"x"})"), "key 'history'"));
}

}  // namespace
}  // namespace bezel::data
