#include "bezel/data/chat_template.h"

#include <string>

#include <gtest/gtest.h>

#include "bezel/data/utf8.h"
#include "bezel/error.h"

namespace bezel::data {
namespace {

using io::Json;
using io::JsonView;

RenderedChat render(const std::string& messages, const ChatOptions& options = {}) {
  const Json json = io::parse_json(messages, "test");
  return render_chat(JsonView(json, "train.jsonl:3", "messages"), nullptr, options);
}

std::string loss_text(const RenderedChat& chat) {
  std::string out;
  for (const auto& [begin, end] : chat.loss_spans) out += chat.text.substr(begin, end - begin) + "|";
  return out;
}

std::string error_of(const std::string& messages, const ChatOptions& options = {}) {
  try {
    render(messages, options);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

// The goldens count characters.
std::size_t byte_of_character(const std::string& text, std::size_t characters) {
  std::size_t at = 0;
  while (characters-- > 0) at += utf8_length(text[at]);
  return at;
}

TEST(ChatTemplate, RendersEveryCaseOfTheReference) {
  const Json cases = io::read_json_file(std::string(BEZEL_TEST_DATA) + "/chat_cases.json");
  ASSERT_GT(cases.size(), 20u);
  for (const Json& one : cases) {
    SCOPED_TRACE(one["name"].get<std::string>());
    for (const std::string form : {"edge", "large"}) {
      ChatOptions options;
      options.format = form == "edge" ? ChatFormat::kEdge : ChatFormat::kLarge;
      options.enable_thinking = one["enable_thinking"].get<bool>();
      const JsonView messages(one["messages"], "case", "messages");
      const RenderedChat chat = render_chat(messages, &one["tools"], options);
      EXPECT_EQ(chat.text, one[form].get<std::string>());
      Json spans = Json::array();
      for (const Json& span : one[form + "_loss_spans"])
        spans.push_back({byte_of_character(chat.text, span[0]), byte_of_character(chat.text, span[1])});
      EXPECT_EQ(Json(chat.loss_spans), spans);
      options.add_generation_prompt = true;
      EXPECT_EQ(render_chat(messages, &one["tools"], options).text, one[form + "_prompt"].get<std::string>());
    }
  }
}

TEST(ChatTemplate, TrainFalseTakesATurnOutOfTheLoss) {
  const auto chat = render(R"([{"role":"user","content":"a"},{"role":"assistant","content":"b","train":false},
                              {"role":"user","content":"c"},{"role":"model","content":"d","train":true}])");
  EXPECT_EQ(loss_text(chat), "d<turn|>|");
}

TEST(ChatTemplate, MaskHistoryKeepsTheLastTurn) {
  ChatOptions options;
  options.mask_history = true;
  const auto chat = render(R"([{"role":"user","content":"a"},{"role":"assistant","content":"b"},
                              {"role":"user","content":"c"},{"role":"assistant","content":"d"}])",
                           options);
  EXPECT_EQ(loss_text(chat), "d<turn|>|");
}

TEST(ChatTemplate, ALastTurnWithToolsIsOneTurn) {
  ChatOptions options;
  options.mask_history = true;
  const auto chat =
      render(R"([{"role":"user","content":"x"},{"role":"assistant","content":"y"},{"role":"user","content":"a"},
      {"role":"assistant","tool_calls":[{"id":"1","function":{"name":"f","arguments":"{\"k\": 1}"}}]},
      {"role":"tool","tool_call_id":"1","content":{"b":1,"A":"z"}},{"role":"assistant","content":"d"}])",
             options);
  EXPECT_EQ(loss_text(chat), "<|tool_call>call:f{k:1}<tool_call|>|d<turn|>|");
  EXPECT_NE(chat.text.find("<|tool_response>response:f{A:<|\"|>z<|\"|>,b:1}<tool_response|>d<turn|>"),
            std::string::npos);
}

TEST(ChatTemplate, ErrorsNameTheMessage) {
  EXPECT_EQ(
      error_of(R"([{"role":"user","content":"a"},{"role":"bot","content":"b"}])"),
      "train.jsonl:3: message 1: role 'bot' is not known; expected system, developer, user, assistant, model or tool");
  EXPECT_NE(error_of(R"([{"role":"user"}])").find("message 0: it has no content"), std::string::npos);
  EXPECT_NE(error_of(R"([{"role":"user","content":3}])").find("message 0: its content"), std::string::npos);
  EXPECT_NE(error_of(R"([{"role":"user","content":[{"type":"pdf"}]}])").find("type 'pdf'"), std::string::npos);
  EXPECT_NE(error_of(R"([{"role":"user","content":"a"},{"role":"tool","content":"b"}])").find("message 1"),
            std::string::npos);
  EXPECT_NE(error_of(R"([{"role":"system","content":[{"type":"image"}]}])").find("message 0"), std::string::npos);
  EXPECT_NE(error_of(R"({"role":"user"})").find("a list of messages"), std::string::npos);
}

// Expected texts are read off the template's loops over tool_responses and over the tool messages behind a call.
TEST(ChatTemplate, AnswersInsideTheMessageAreRenderedAndNotLearnt) {
  const auto chat = render(R"([{"role":"user","content":"q"},{"role":"assistant","content":"a",
      "tool_calls":[{"function":{"name":"f","arguments":{}}}],
      "tool_responses":[{"name":"f","response":{"level":"low"}},{"name":"g","response":"x"}]}])");
  EXPECT_EQ(chat.text,
            "<bos><|turn>user\nq<turn|>\n<|turn>model\n<|tool_call>call:f{}<tool_call|>"
            "<|tool_response>response:f{level:<|\"|>low<|\"|>}<tool_response|>"
            "<|tool_response>response:g{value:<|\"|>x<|\"|>}<tool_response|>a<turn|>\n");
  EXPECT_EQ(loss_text(chat), "<|tool_call>call:f{}<tool_call|>|a<turn|>|");
  EXPECT_NE(error_of(R"([{"role":"user","content":"q"},{"role":"assistant","tool_calls":[{"name":"f"}],
      "tool_responses":[{"name":"f","response":"x"}]},{"role":"tool","content":"y"}])")
                .find("message 2: a tool message follows"),
            std::string::npos);
}

TEST(ChatTemplate, AnswersWithoutIdsTakeTheNameOfTheLastCallWithoutOne) {
  const std::string calls = R"([{"role":"user","content":"q"},{"role":"assistant","tool_calls":[{"function":{"name":"f",
      "arguments":""}},{"function":{"name":"g","arguments":{}}}]},{"role":"tool","content":"x"},{"role":"assistant","content":"a"}])";
  EXPECT_EQ(render(calls).text,
            "<bos><|turn>user\nq<turn|>\n<|turn>model\n<|tool_call>call:f{}<tool_call|><|tool_call>call:g{}<tool_call|>"
            "<|tool_response>response:g{value:<|\"|>x<|\"|>}<tool_response|>a<turn|>\n");
}

TEST(ChatTemplate, AToolMayAnswerNull) {
  EXPECT_NE(render(R"([{"role":"user","content":"q"},{"role":"assistant","tool_calls":[{"name":"f"}]},
      {"role":"tool","content":null}])")
                .text.find("<|tool_response>response:f{value:None}<tool_response|>"),
            std::string::npos);
}

// tests/parity/gemma3_chat.py compares whole conversations with Gemma 3's own template.
TEST(Gemma3Chat, SystemTextStandsBeforeTheFirstUserTurn) {
  const auto chat = render(R"([{"role":"system","content":" be brief "},{"role":"user","content":" a "},
                              {"role":"assistant","content":"b\n"},{"role":"user","content":"c"}])",
                           {.format = ChatFormat::kGemma3, .add_generation_prompt = true});
  EXPECT_EQ(chat.text,
            "<bos><start_of_turn>user\n be brief \n\na<end_of_turn>\n<start_of_turn>model\nb<end_of_turn>\n"
            "<start_of_turn>user\nc<end_of_turn>\n<start_of_turn>model\n");
  EXPECT_EQ(loss_text(chat), "b<end_of_turn>|");
}

TEST(Gemma3Chat, LossFollowsTrainAndHistory) {
  const std::string messages = R"([{"role":"user","content":"a"},{"role":"model","content":"b"},
      {"role":"user","content":"c"},{"role":"model","content":"d","train":false},
      {"role":"user","content":"e"},{"role":"model","content":"f"}])";
  EXPECT_EQ(loss_text(render(messages, {.format = ChatFormat::kGemma3})), "b<end_of_turn>|f<end_of_turn>|");
  EXPECT_EQ(loss_text(render(messages, {.format = ChatFormat::kGemma3, .mask_history = true})), "f<end_of_turn>|");
  const auto chat = render(messages, {.format = ChatFormat::kGemma3});
  ASSERT_EQ(chat.left_out.size(), 1u);
  const auto [begin, end] = chat.left_out[0];
  EXPECT_EQ(chat.text.substr(begin, end - begin), "<start_of_turn>model\nd<end_of_turn>\n");
}

TEST(Gemma3Chat, RefusesWhatItsTemplateHasNoPlaceFor) {
  const ChatOptions options{.format = ChatFormat::kGemma3};
  EXPECT_NE(error_of(R"([{"role":"assistant","content":"a"}])", options).find("message 0: a user turn belongs here"),
            std::string::npos);
  EXPECT_NE(error_of(R"([{"role":"user","content":"a"},{"role":"user","content":"b"}])", options).find("message 1"),
            std::string::npos);
  EXPECT_NE(error_of(R"([{"role":"user","content":"a"},{"role":"tool","content":"b"}])", options).find("no tools"),
            std::string::npos);
  EXPECT_NE(error_of(R"([{"role":"user","content":[{"type":"image"}]}])", options).find("text only"),
            std::string::npos);
  EXPECT_NE(error_of(R"([{"role":"user"}])", options).find("message 0: it has no content"), std::string::npos);
}

}  // namespace
}  // namespace bezel::data
