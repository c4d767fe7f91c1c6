#include "bezel/data/answer.h"

#include <string>

#include <gtest/gtest.h>

#include "bezel/io/json.h"

namespace bezel::data {
namespace {

SampleText read(const std::string& line, bool train_on_inputs = false) {
  SampleOptions options;
  options.train_on_inputs = train_on_inputs;
  return read_sample(io::parse_json(line, "t.jsonl:4"), "t.jsonl:4", options);
}

TEST(SplitAnswer, ChatsEndBeforeTheLastTurnOfTheModel) {
  const std::string line = R"({"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"},
      {"role":"user","content":"r"},{"role":"assistant","content":" b c "}]})";
  const auto asked = split_answer(read(line), ChatFormat::kEdge);
  ASSERT_TRUE(asked);
  EXPECT_EQ(asked->prompt.text,
            "<bos><|turn>user\nq<turn|>\n<|turn>model\na<turn|>\n<|turn>user\nr<turn|>\n<|turn>model\n");
  EXPECT_EQ(asked->answer, "b c");
  EXPECT_TRUE(asked->prompt.loss_spans.empty());
  const auto large = split_answer(read(line), ChatFormat::kLarge);
  EXPECT_EQ(large->prompt.text, asked->prompt.text + "<|channel>thought\n<channel|>");
}

TEST(SplitAnswer, TheWholeTextInTheLossDoesNotMoveIt) {
  const std::string line = R"({"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]})";
  const auto asked = split_answer(read(line, true), ChatFormat::kEdge);
  ASSERT_TRUE(asked);
  EXPECT_EQ(asked->prompt.text, "<bos><|turn>user\nq<turn|>\n<|turn>model\n");
  EXPECT_EQ(split_answer(read(R"({"prompt":"one ","completion":"two"})", true), ChatFormat::kLarge)->prompt.text,
            "<bos>one ");
}

TEST(SplitAnswer, CompletionsFollowTheirPromptAndTextHasNone) {
  const auto asked = split_answer(read(R"({"prompt":"one ","completion":"two"})"), ChatFormat::kLarge);
  ASSERT_TRUE(asked);
  EXPECT_EQ(asked->prompt.text, "<bos>one ");
  EXPECT_EQ(asked->answer, "two");
  EXPECT_FALSE(split_answer(read(R"({"text":"abc"})"), ChatFormat::kEdge));
  EXPECT_FALSE(split_answer(read(R"({"prompt":"","completion":"two"})"), ChatFormat::kEdge));
}

TEST(SplitAnswer, MediaBehindTheAnswerStayOut) {
  const auto asked = split_answer(
      read(R"({"messages":[{"role":"user","content":[{"type":"image","path":"a.png"},{"type":"text","text":"q"}]},
      {"role":"assistant","content":"a"},
      {"role":"user","content":[{"type":"image","path":"b.png"},{"type":"audio","path":"c.wav"}]}]})"),
      ChatFormat::kEdge);
  ASSERT_TRUE(asked);
  ASSERT_EQ(asked->prompt.media.size(), 1u);
  EXPECT_EQ(asked->prompt.media[0].path, "a.png");
}

TEST(SplitAnswer, AToolsAnswerBelongsToThePrompt) {
  const auto asked = split_answer(read(R"({"messages":[{"role":"user","content":"q"},
      {"role":"assistant","tool_calls":[{"id":"1","function":{"name":"f","arguments":{}}}]},
      {"role":"tool","tool_call_id":"1","content":"7"},{"role":"assistant","content":"It is 7."}]})"),
                                  ChatFormat::kLarge);
  ASSERT_TRUE(asked);
  EXPECT_EQ(asked->answer, "It is 7.");
  // The turn of the model is open already, so there is no generation prompt.
  EXPECT_TRUE(asked->prompt.text.ends_with("<tool_response|>")) << asked->prompt.text;
}

TEST(AnswerText, LeavesOutThoughtsAndTheEnd) {
  EXPECT_EQ(answer_text(" a b<turn|>"), "a b");
  EXPECT_EQ(answer_text("<|channel>thought\nhm<channel|>7<eos>"), "7");
  EXPECT_EQ(answer_text("<|tool_call>call:f{}<tool_call|>"), "<|tool_call>call:f{}<tool_call|>");
}

TEST(ScoreAnswer, WhiteSpaceCountsOnceAndCaseWhenAsked) {
  EXPECT_TRUE(score_answer("A  cat\n on a sofa ", "A cat on a sofa", false).exact);
  EXPECT_FALSE(score_answer("a cat", "A cat", false).exact);
  EXPECT_FALSE(score_answer("a cat", "A cat", false).contains);
  EXPECT_TRUE(score_answer("a cat", "A cat", true).exact);
  EXPECT_FALSE(score_answer("Here: a cat.", "a cat", false).exact);
  EXPECT_TRUE(score_answer("Here: a\tcat.", "a cat", false).contains);
  EXPECT_FALSE(score_answer("acat", "a cat", false).contains);
}

TEST(ScoreAnswer, NothingIsContainedInNothingOnly) {
  EXPECT_TRUE(score_answer(" ", "", false).contains);
  EXPECT_FALSE(score_answer("a", "", false).contains);
}

}  // namespace
}  // namespace bezel::data
