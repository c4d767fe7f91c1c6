#include "bezel/data/sample_notes.h"

#include <string>

#include <gtest/gtest.h>

#include "bezel/data/dataset_report.h"
#include "bezel/data/sample_text.h"

namespace bezel::data {
namespace {

SampleNotes notes(const std::string& line) { return read_sample(io::parse_json(line, "t.jsonl:4"), "t.jsonl:4").notes; }

SampleNotes of_answer(const std::string& answer) {
  return notes(R"({"messages":[{"role":"user","content":"q"},{"role":"assistant",)" + answer + "}]}");
}

TEST(SampleNotes, ThoughtsOfPlainAnswersAreCounted) {
  EXPECT_EQ(of_answer(R"("content":"13")").thoughts_left_out, 0u);
  EXPECT_EQ(of_answer(R"("content":"13","reasoning":"3*4 is 12.")").thoughts_left_out, 1u);
  EXPECT_EQ(of_answer(R"("content":"13","reasoning_content":"3*4 is 12.")").thoughts_left_out, 1u);
  EXPECT_EQ(of_answer(R"("content":"13","reasoning":" ")").thoughts_left_out, 0u);
  EXPECT_EQ(of_answer(R"("content":"<|channel>thought\n3*4 is 12.\n<channel|>13")").thoughts_left_out, 1u);
  // The thought stands in the answer too, and is left out all the same.
  EXPECT_EQ(of_answer(R"("content":"It is 13","reasoning":"13")").thoughts_left_out, 1u);
}

TEST(SampleNotes, ThoughtsThatTheTemplateRendersAreNot) {
  const std::string call = R"("reasoning":"look","tool_calls":[{"function":{"name":"f","arguments":{}}}])";
  EXPECT_EQ(of_answer(R"("content":"",)" + call).thoughts_left_out, 0u);
  const std::string both = R"({"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"",)" + call +
                           R"(},{"role":"tool","content":"1"},{"role":"assistant","content":"a","reasoning":"seen"}]})";
  EXPECT_EQ(notes(both).thoughts_left_out, 1u);
}

TEST(SampleNotes, AnswersWithoutAWordAreCounted) {
  EXPECT_EQ(of_answer(R"("content":"a")").empty_answers, 0u);
  EXPECT_EQ(of_answer(R"("content":"")").empty_answers, 1u);
  EXPECT_EQ(of_answer(R"("content":" \n")").empty_answers, 1u);
  EXPECT_EQ(of_answer(R"("content":[{"type":"text","text":""}])").empty_answers, 1u);
  EXPECT_EQ(of_answer(R"("content":"<|channel>thought\nx<channel|>")").empty_answers, 1u);
  EXPECT_EQ(of_answer(R"("content":"","tool_calls":[{"function":{"name":"f","arguments":{}}}])").empty_answers, 0u);
  EXPECT_EQ(notes(R"({"prompt":"q","completion":" "})").empty_answers, 1u);
  EXPECT_EQ(notes(R"({"instruction":"q","output":""})").empty_answers, 1u);
  const std::string masked =
      R"({"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"","train":false},
      {"role":"user","content":"q"},{"role":"assistant","content":"a"}]})";
  EXPECT_EQ(notes(masked).empty_answers, 0u);
}

TEST(SampleNotes, AddedRequestsAreCounted) {
  EXPECT_EQ(notes(R"({"audio":"a.wav","text":"hello"})").added_requests, 1u);
  EXPECT_EQ(notes(R"({"audio":"a.wav","text":"hello","prompt":"Listen."})").added_requests, 0u);
}

TEST(DatasetReport, EverythingLeftOutIsSaidWithItsFirstLine) {
  DatasetReport report;
  EXPECT_TRUE(describe_left_out(report, 2048, 30).empty());
  report.num_too_long = 2;
  report.first_too_long = "t.jsonl:3";
  report.thoughts.add(1, "t.jsonl:4");
  report.empty_answers.add(0, "t.jsonl:4");
  report.empty_answers.add(2, "t.jsonl:5");
  report.empty_answers.add(1, "t.jsonl:6");
  report.long_audio_clips.add(1, "t.jsonl:7");
  const std::vector<std::string> expected = {
      "2 samples are left out: longer than max_seq_length 2048 and cannot be cut (first: t.jsonl:3)",
      "thoughts of 1 message are not learned: the chat template leaves them out (first: t.jsonl:4)",
      "3 answers are empty: the model learns to end its turn without a word (first: t.jsonl:5)",
      "1 audio clip is longer than 30 s, and the rest is not heard: split audio clip and transcript (first: "
      "t.jsonl:7)"};
  EXPECT_EQ(describe_left_out(report, 2048, 30), expected);
}

}  // namespace
}  // namespace bezel::data
