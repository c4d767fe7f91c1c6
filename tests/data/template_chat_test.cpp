#include "bezel/data/template_chat.h"

#include <gtest/gtest.h>

#include "bezel/data/answer.h"
#include "bezel/data/checkpoint_template.h"
#include "bezel/data/sample_text.h"
#include "support/temp_folder.h"

namespace bezel::data {
namespace {

using test::error_of;
using test::says;

const std::string kChatMl =
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.tool_calls %}{% for c in m.tool_calls %}"
    "<tool_call>{{ c.function | tojson }}</tool_call>\n{% endfor %}{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% endif %}{% endif %}";

class TemplateChat : public testing::Test {
 protected:
  void use(const std::string& source) {
    test::write_bytes(folder / "chat_template.jinja", source);
    options.chat.checkpoint_template = CheckpointTemplate::load(folder.path().string());
  }
  SampleText read(const std::string& line) const { return read_sample(io::parse_json(line, "line"), "line", options); }
  // The learnt parts, with '|' behind each.
  std::string learnt(const std::string& line) const {
    const SampleText sample = read(line);
    std::string out;
    for (const auto& [begin, end] : sample.loss_spans) out += sample.text.substr(begin, end - begin) + "|";
    return out;
  }
  std::string refusal(const std::string& line) const {
    return error_of([&] { read(line); });
  }

  test::TempFolder folder;
  SampleOptions options;
};

const std::string kTwoTurns =
    R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":" b "},{"role":"user","content":"c"},)"
    R"({"role":"assistant","content":"d\n"}]})";

TEST_F(TemplateChat, TurnsOfTheModelAreLearntWithTheirEnd) {
  use(kChatMl);
  EXPECT_EQ(read(kTwoTurns).text,
            "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n b <|im_end|>\n<|im_start|>user\nc<|im_end|>\n"
            "<|im_start|>assistant\nd\n<|im_end|>\n");
  EXPECT_EQ(learnt(kTwoTurns), " b <|im_end|>|d\n<|im_end|>|");
  options.chat.mask_history = true;
  EXPECT_EQ(learnt(kTwoTurns), "d\n<|im_end|>|");
}

TEST_F(TemplateChat, CallsAreLearntAndAnswersOfToolsAreNot) {
  use(kChatMl);
  EXPECT_EQ(learnt(R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"","tool_calls":[)"
                   R"({"function":{"name":"f","arguments":"{\"x\": 1}"}}]},{"role":"tool","content":"9"},)"
                   R"({"role":"assistant","content":"b"}]})"),
            "<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": 1}}</tool_call>\n<|im_end|>|b<|im_end|>|");
}

TEST_F(TemplateChat, TrainFalseHolds) {
  use(kChatMl);
  const std::string line =
      R"({"messages":[{"role":"user","content":"a","train":false},{"role":"assistant","content":"b","train":false},)"
      R"({"role":"user","content":"c"},{"role":"assistant","content":"d"}]})";
  EXPECT_EQ(learnt(line), "d<|im_end|>|");
  options.train_on_inputs = true;
  EXPECT_EQ(learnt(line), "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\nd<|im_end|>\n|");
}

TEST_F(TemplateChat, GenerationCountsWhereItIs) {
  use("{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}{% generation %}{{ m.content }}</s>\n"
      "{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}");
  EXPECT_EQ(learnt(kTwoTurns), " b </s>\n|d\n</s>\n|");
}

TEST_F(TemplateChat, APromptForTheAnswerEndsAsAGenerationPrompt) {
  use(kChatMl);
  const std::string kwargs = R"(,"chat_template_kwargs":{"enable_thinking":false}})";
  const SampleText sample = read(kTwoTurns.substr(0, kTwoTurns.size() - 1) + kwargs);
  const auto asked = split_answer(sample, ChatFormat::kEdge);
  ASSERT_TRUE(asked);
  EXPECT_TRUE(asked->prompt.text.ends_with("c<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"));
}

TEST_F(TemplateChat, WhatATemplateLeavesOutIsRefused) {
  use("{% for m in messages if m.role != 'system' %}<{{ m.role }}>{{ m.content }};{% endfor %}"
      "{% if add_generation_prompt %}<assistant>{% endif %}");
  EXPECT_EQ(refusal(R"({"messages":[{"role":"system","content":"s"},{"role":"user","content":"a"},)"
                    R"({"role":"assistant","content":"b"}]})"),
            "line: message 0: the chat template leaves its content out");
  EXPECT_TRUE(says(refusal(R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b",)"
                           R"("tool_calls":[{"function":{"name":"weather","arguments":{}}}]}]})"),
                   "message 1: the chat template leaves its tool calls out"));
  EXPECT_TRUE(says(refusal(R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}],)"
                           R"("tools":[{"type":"function","function":{"name":"weather"}}]})"),
                   "key 'tools': the chat template leaves the tool 'weather' out"));
  EXPECT_TRUE(says(refusal(R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}],)"
                           R"("chat_template_kwargs":{"date_string":"x"}})"),
                   "has no 'date_string'; leave it out of chat_template_kwargs"));
}

TEST_F(TemplateChat, WhatATemplateRaisesNamesItsLine) {
  use("{% if messages | length > 1 %}\n{{ raise_exception('too long') }}\n{% endif %}");
  EXPECT_EQ(refusal(kTwoTurns),
            "line: " + (folder / "chat_template.jinja") + ": line 2: the template refuses the chat: too long");
}

TEST_F(TemplateChat, WithoutAnEndOrAnOpeningAssistantTurnsAreNotClear) {
  use("{% for m in messages %}{{ m.content }}\n{% endfor %}");
  EXPECT_TRUE(says(refusal(kTwoTurns),
                   "does not show what an assistant turn is: it marks no end of an answer; "
                   "train_on_inputs: true learns all of the text"));
  use("{% for m in messages %}### {{ m.role }}:{{ m.content }}</s>{% endfor %}");
  EXPECT_TRUE(says(refusal(kTwoTurns), "its generation prompt does not open a turn as its answers do"));
  options.train_on_inputs = true;
  EXPECT_EQ(learnt(kTwoTurns), "### user:a</s>### assistant: b </s>### user:c</s>### assistant:d\n</s>|");
}

TEST_F(TemplateChat, SpellingsOfPartsAreThoseThatTemplatesKnow) {
  use("{% for m in messages %}{{ m.role }}:{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content "
      "%}"
      "{{ '<|image|>' if p.type == 'image' else p.text }}{% endfor %}{% endif %};{% endfor %}"
      "{% if add_generation_prompt %}assistant:{% endif %}");
  const io::Json messages =
      io::parse_json(R"([{"role":"user","content":[{"type":"input_image","path":"x.png"},{"type":"text","text":"a"}]},)"
                     R"({"role":"model","content":"b"}])",
                     "line");
  const RenderedChat chat = render_template_chat(io::JsonView(messages, "line", "messages"), nullptr, options.chat);
  EXPECT_EQ(chat.text, "user:<|image|>a;assistant:b;");
}

}  // namespace
}  // namespace bezel::data
