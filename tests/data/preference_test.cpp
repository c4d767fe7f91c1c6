#include "bezel/data/preference.h"

#include <gtest/gtest.h>

#include "bezel/error.h"
#include "tests/support/temp_folder.h"

namespace bezel::data {
namespace {

using input::AnswerRole;
using test::error_of;
using test::says;

std::vector<AnswerText> answers(const std::string& line, LineKind kind = LineKind::kPair, bool learns_prompt = false) {
  return read_answers(io::parse_json(line, "p.jsonl:2"), "p.jsonl:2", kind, learns_prompt, {});
}

std::string failure(const std::string& line, LineKind kind = LineKind::kPair) {
  return error_of([&] { answers(line, kind); });
}

// What carries loss.
std::string learned(const AnswerText& answer) {
  std::string out;
  for (const auto& [begin, end] : answer.text.loss_spans) out += "|" + answer.text.text.substr(begin, end - begin);
  return out;
}

const std::string kUser = R"({"role":"user","content":"q"})";
const std::string kGood = R"({"role":"assistant","content":"good"})";
const std::string kBad = R"({"role":"assistant","content":"bad"})";
const std::string kChat = "<bos><|turn>user\nq<turn|>\n<|turn>model\n";

TEST(Preference, AllFormsOfAPairAreTheSameTwoChats) {
  for (const std::string& line :
       {R"({"prompt":[)" + kUser + R"(],"chosen":[)" + kGood + R"(],"rejected":[)" + kBad + "]}",
        R"({"chosen":[)" + kUser + "," + kGood + R"(],"rejected":[)" + kUser + "," + kBad + "]}",
        R"({"prompt":"q","chosen":[)" + kUser + "," + kGood + R"(],"rejected":[)" + kUser + "," + kBad +
            R"(],"score_chosen":8,"rejected-model":"m","margin":2})",
        R"({"messages":[)" + kUser + R"(],"chosen":)" + kGood + R"(,"rejected":)" + kBad + "}",
        std::string(R"({"conversations":[{"from":"human","value":"q"}],"chosen":{"from":"gpt","value":"good"},)") +
            R"("rejected":{"from":"gpt","value":"bad"}})",
        std::string(R"({"instruction":"q","input":"","chosen":"good","rejected":"bad"})")}) {
    const auto pair = answers(line);
    ASSERT_EQ(pair.size(), 2u) << line;
    EXPECT_EQ(pair[0].role, AnswerRole::kChosen);
    EXPECT_EQ(pair[1].role, AnswerRole::kRejected);
    EXPECT_EQ(pair[0].text.text, kChat + "good<turn|>\n") << line;
    EXPECT_EQ(pair[1].text.text, kChat + "bad<turn|>\n") << line;
    EXPECT_EQ(learned(pair[0]), "|good<turn|>") << line;
    EXPECT_EQ(learned(pair[1]), "|bad<turn|>") << line;
  }
}

TEST(Preference, PlainTextsAreNoChats) {
  for (const char* line : {R"({"prompt":"The sky is","chosen":" blue.","rejected":" green."})",
                           R"({"chosen":"The sky is blue.","rejected":"The sky is green."})"}) {
    const auto pair = answers(line);
    EXPECT_EQ(pair[0].text.text, "<bos>The sky is blue.<eos>") << line;
    EXPECT_EQ(learned(pair[0]), "| blue.<eos>") << line;
    EXPECT_EQ(learned(pair[1]), "| green.<eos>") << line;
  }
  // No half character.
  EXPECT_EQ(learned(answers(R"({"chosen":"caf\u00e9","rejected":"caf\u00e8"})")[0]), "|\u00e9<eos>");
}

TEST(Preference, OnlyTheAnswerOfTheLastTurnIsCompared) {
  const auto pair = answers(R"({"system":"be kind","prompt":[)" + kUser + "," + kGood + "," + kUser +
                            R"(],"chosen":[)" + kGood + R"(],"rejected":[)" + kBad + "]}");
  EXPECT_EQ(learned(pair[0]), "|good<turn|>");
  EXPECT_TRUE(says(pair[0].text.text, "be kind"));
  const auto history = answers(R"({"instruction":"q","history":[["a","b"]],"chosen":"good","rejected":"bad"})");
  EXPECT_EQ(learned(history[1]), "|bad<turn|>");
  EXPECT_TRUE(says(history[1].text.text, "a<turn|>\n<|turn>model\nb<turn|>"));
}

TEST(Preference, LabelsAreAboutTheLastAnswer) {
  for (const std::string& line : {R"({"prompt":[)" + kUser + R"(],"completion":[)" + kGood + R"(],"label":true})",
                                  R"({"messages":[)" + kUser + "," + kGood + R"(],"label":1})",
                                  std::string(R"({"instruction":"q","output":"good","kto_tag":true})")}) {
    const auto answer = answers(line, LineKind::kLabelled);
    ASSERT_EQ(answer.size(), 1u) << line;
    EXPECT_EQ(answer[0].role, AnswerRole::kDesirable);
    EXPECT_EQ(answer[0].text.text, kChat + "good<turn|>\n") << line;
    EXPECT_EQ(learned(answer[0]), "|good<turn|>") << line;
  }
  const auto pair = answers(R"({"prompt":"q","chosen":" a","rejected":" b"})", LineKind::kLabelled);
  ASSERT_EQ(pair.size(), 2u);
  EXPECT_EQ(pair[0].role, AnswerRole::kDesirable);
  EXPECT_EQ(pair[1].role, AnswerRole::kUndesirable);
}

TEST(Preference, ChosenPromptsAreLearnedWhereTheObjectiveSaysSo) {
  const auto pair = answers(R"({"prompt":[)" + kUser + R"(],"chosen":[)" + kGood + R"(],"rejected":[)" + kBad + "]}",
                            LineKind::kPair, /*learns_prompt=*/true);
  ASSERT_EQ(pair[0].prompt_spans.size(), 1u);
  EXPECT_EQ(pair[0].prompt_spans[0], (std::pair<std::size_t, std::size_t>(5, pair[0].text.text.size())));
  EXPECT_TRUE(pair[1].prompt_spans.empty());
}

TEST(Preference, WhatIsNoPairIsRefusedByName) {
  EXPECT_TRUE(says(failure(R"({"prompt":"q","completion":"a"})"), "p.jsonl:2: has no 'chosen' and 'rejected'"));
  EXPECT_TRUE(says(failure(R"({"prompt":"q","completion":"a","label":true})"), "objective: kto"));
  EXPECT_TRUE(says(failure(R"({"prompt":"q","completion":"a"})", LineKind::kLabelled), "has no 'label'"));
  EXPECT_TRUE(says(failure(R"({"prompt":"q","completion":"a","label":"good"})", LineKind::kLabelled), "key 'label'"));
  EXPECT_TRUE(says(failure(R"({"prompt":"q","chosen":"a","rejected":"a"})"), "are the same"));
  EXPECT_TRUE(says(failure(R"({"chosen":"one","rejected":"two"})"), "begin otherwise"));
  EXPECT_TRUE(says(failure(R"({"prompt":"q","chosen":"a","rejected":[)" + kBad + "]}"), "different forms"));
  EXPECT_TRUE(says(failure(R"({"prompt":"other","chosen":[)" + kUser + "," + kGood + R"(],"rejected":[)" + kUser + "," +
                           kBad + "]}"),
                   "key 'prompt' says something else"));
  EXPECT_TRUE(says(failure(R"({"prompt":"q","chosen":"a","rejected":"b","weight":2})"), "weights of samples"));
  EXPECT_TRUE(says(failure(R"({"prompt":"q","chosen":"see <|image|>","rejected":"b","images":["a.png"]})"),
                   "they belong into the prompt"));
  EXPECT_TRUE(says(failure(R"({"prompt":"q","chosen":"a","rejected":"b"})", LineKind::kSample), "objective: dpo"));
}

}  // namespace
}  // namespace bezel::data
