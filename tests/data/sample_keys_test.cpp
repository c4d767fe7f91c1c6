#include "bezel/data/sample_keys.h"

#include <string>

#include <gtest/gtest.h>

#include "bezel/data/sample_text.h"
#include "support/temp_folder.h"

namespace bezel::data {
namespace {

using test::error_of;
using test::says;

std::string failure(const std::string& line) {
  return error_of([&] { read_sample(io::parse_json(line, "t.jsonl:4"), "t.jsonl:4"); });
}

void accept(const std::string& line) { read_sample(io::parse_json(line, "t.jsonl:4"), "t.jsonl:4"); }

const std::string kMessages = R"("messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}])";

TEST(SampleKeys, IdsSourcesAndEmptyValuesAreHarmless) {
  accept(R"({"id":7,"source":"web","score":0.5,"metadata":{"a":1},"unknown":null,"other":[],)" + kMessages + "}");
  accept(R"({"instruction":"q","input":"","output":"a","text":"rendered"})");
  accept(R"({"prompt":"q","prompt_id":"1",)" + kMessages + "}");
  accept(R"({"messages":[{"role":"user","content":"q","id":1},{"role":"assistant","content":"a","refusal":null}]})");
}

TEST(SampleKeys, UnknownKeysOfALineNameTheNearest) {
  EXPECT_TRUE(says(failure(R"({"sytem":"s",)" + kMessages + "}"),
                   "t.jsonl:4: key 'sytem' is not used in this form of sample; did you mean 'system'?"));
  EXPECT_TRUE(says(failure(R"({"weight":0,)" + kMessages + "}"), "weights of samples are not supported"));
  EXPECT_TRUE(says(failure(R"({"chosen":"x","prompt":"q","completion":"a"})"), "preference pairs need objective: dpo"));
  EXPECT_TRUE(says(failure(R"({"instruction":"q","output":"a","context":"c"})"), "'input'"));
  EXPECT_TRUE(says(failure(R"({"zzzzzz":1,"text":"a"})"), "used here are text, images, audios"));
  EXPECT_TRUE(says(failure(R"({"prompt":"other",)" + kMessages + "}"), "key 'prompt' is not used"));
}

TEST(SampleKeys, UnknownKeysInsideAreRefused) {
  const auto message = [](const std::string& key) {
    return failure(R"({"messages":[{"role":"user","content":"q",)" + key + R"(},{"role":"assistant","content":"a"}]})");
  };
  EXPECT_TRUE(says(message(R"("train_detail":[1])"), "write \"train\": false"));
  EXPECT_TRUE(says(message(R"("thinking":"x")"), "write it as 'reasoning', or leave it out"));
  EXPECT_TRUE(says(message(R"("function_call":{"name":"f"})"), "write it as 'tool_calls'"));
  EXPECT_TRUE(says(failure(R"({"messages":[{"role":"user","content":[{"type":"text","text":"q","crop":[1]}]},
      {"role":"assistant","content":"a"}]})"),
                   "in a part of the content"));
  EXPECT_TRUE(says(failure(R"({"messages":[{"role":"user","content":"q"},{"role":"assistant",
      "tool_calls":[{"function":{"name":"f","argumets":{"a":1}}}]}]})"),
                   "did you mean 'arguments'?"));
  EXPECT_TRUE(says(failure(R"({"tools":[{"name":"f","paramters":{"a":1}}],)" + kMessages + "}"), "'parameters'"));
  EXPECT_TRUE(says(failure(R"({"conversations":[{"from":"human","value":"q","vlue":"x"},{"from":"gpt","value":"a"}]})"),
                   "did you mean 'value'?"));
  EXPECT_TRUE(
      says(failure(R"({"conversations":[{"from":"human","value":"q","images":["1.png"]},{"from":"gpt","value":"a"}]})"),
           "list images beside 'conversations'"));
}

TEST(SampleKeys, AFormThatIsNotKnownGetsAdviceOnItsKeys) {
  const std::string told = failure(R"({"query":"q","response":"a"})");
  EXPECT_TRUE(says(told, "keys {query, response} make no known form"));
  EXPECT_TRUE(says(told, "'query': write the request as 'instruction'"));
  EXPECT_TRUE(says(told, "'response': write the answer as 'output'"));
  EXPECT_TRUE(says(failure(R"({"data":[{"text":"a"}]})"), "jq '.data'"));
}

}  // namespace
}  // namespace bezel::data
