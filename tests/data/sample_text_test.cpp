#include "bezel/data/sample_text.h"

#include <string>

#include <gtest/gtest.h>

#include "bezel/error.h"

namespace bezel::data {
namespace {

SampleText read(const std::string& line, const SampleOptions& options = {}) {
  return read_sample(io::parse_json(line, "t.jsonl:4"), "t.jsonl:4", options);
}

std::string loss_text(const SampleText& sample) {
  std::string out;
  for (const auto& [begin, end] : sample.loss_spans) out += sample.text.substr(begin, end - begin) + "|";
  return out;
}

std::string error_of(const std::string& line) {
  try {
    read(line);
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

bool says(const std::string& text, const std::string& what) {
  return text.find("t.jsonl:4: ") == 0 && text.find(what) != std::string::npos;
}

TEST(SampleForms, MessagesAreRenderedAsAChat) {
  const auto sample = read(R"({"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]})");
  EXPECT_EQ(sample.text, "<bos><|turn>user\nq<turn|>\n<|turn>model\na<turn|>\n");
  EXPECT_EQ(loss_text(sample), "a<turn|>|");
}

TEST(SampleForms, PromptAndCompletionLearnTheCompletion) {
  const auto plain = read(R"({"prompt":"one ","completion":"two"})");
  EXPECT_EQ(plain.text, "<bos>one two<eos>");
  EXPECT_EQ(loss_text(plain), "two<eos>|");
  const auto chat = read(R"({"prompt":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},
      {"role":"user","content":"c"}],"completion":[{"role":"assistant","content":"d"}]})");
  EXPECT_EQ(loss_text(chat), "d<turn|>|");
}

TEST(SampleForms, TextLearnsEverythingBehindBos) {
  EXPECT_EQ(loss_text(read(R"({"text":"abc"})")), "abc<eos>|");
  EXPECT_EQ(read(R"({"text":"<bos>abc<eos>"})").text, "<bos>abc<eos>");
}

TEST(SampleForms, InstructionsAndShareGptBecomeChats) {
  EXPECT_EQ(read(R"({"instruction":"Add","input":"1 2","output":"3"})").text,
            "<bos><|turn>user\nAdd\n\n1 2<turn|>\n<|turn>model\n3<turn|>\n");
  const auto shared = read(R"({"conversations":[{"from":"human","value":"<image>What?"},{"from":"gpt","value":"A cat"}],
      "images":["c.png"]})");
  EXPECT_EQ(shared.text, "<bos><|turn>user\n<|image|>What?<turn|>\n<|turn>model\nA cat<turn|>\n");
  EXPECT_EQ(shared.images.at(0).path, "c.png");
}

TEST(SampleForms, TrainOnInputsLearnsAllText) {
  SampleOptions options;
  options.train_on_inputs = true;
  EXPECT_EQ(loss_text(read(R"({"prompt":"one ","completion":"two"})", options)), "one two<eos>|");
}

TEST(SampleMedia, PartsAndListsAreTakenInOrder) {
  const auto sample = read(R"({"messages":[{"role":"user","content":[{"type":"image","path":"1.png"},{"type":"audio"},
      {"type":"image"},{"type":"image_url","image_url":{"url":"data:image/png;base64,Zm9v"}},
      {"type":"input_audio","input_audio":{"data":"YmFy","format":"wav"}}]},{"role":"assistant","content":"a"}],
      "images":["2.png"],"audios":[{"path":"1.wav"}]})");
  ASSERT_EQ(sample.images.size(), 3u);
  EXPECT_EQ(sample.images[0].path, "1.png");
  EXPECT_EQ(sample.images[1].path, "2.png");
  EXPECT_EQ(sample.images[2].bytes, "foo");
  ASSERT_EQ(sample.audios.size(), 2u);
  EXPECT_EQ(sample.audios[0].path, "1.wav");
  EXPECT_EQ(sample.audios[1].bytes, "bar");
}

TEST(SampleMedia, TypedPlaceholdersMustMatchTheMedia) {
  EXPECT_EQ(read(R"({"text":"<|image|> and <|image|>","images":["1.png","2.png"]})").images.size(), 2u);
  EXPECT_TRUE(says(error_of(R"({"text":"<|image|>"})"), "holds 1 <|image|>, but 0 images are given"));
  EXPECT_TRUE(says(error_of(R"({"text":"x","audios":["1.wav"]})"), "holds 0 <|audio|>, but 1 audios are given"));
  EXPECT_TRUE(says(error_of(R"({"text":"<|video|>"})"), "video"));
  EXPECT_TRUE(says(error_of(R"({"messages":[{"role":"user","content":[{"type":"image","path":"1.png"},
      {"type":"text","text":"<|image|>"}]},{"role":"assistant","content":"a"}],"images":["2.png"]})"),
                   "typed in the text"));
  EXPECT_TRUE(says(error_of(R"({"messages":[{"role":"user","content":[{"type":"image"}]},
      {"role":"assistant","content":"a"}]})"),
                   "names no file"));
}

TEST(SampleErrors, NameTheLine) {
  EXPECT_TRUE(says(error_of(R"({"message":[]})"), "keys {message}"));
  EXPECT_TRUE(says(error_of(R"([1])"), "expected an object"));
  EXPECT_TRUE(says(error_of(R"({"messages":[{"role":"user","content":"q"}]})"), "no assistant turn"));
  EXPECT_TRUE(
      says(error_of(R"({"messages":[{"role":"user","content":"q"},{"role":"bot","content":"q"}]})"), "message 1"));
  EXPECT_TRUE(says(error_of(R"({"messages":[{"role":"user","content":"q"},
      {"role":"assistant","content":"a","train":false}]})"),
                   "nothing to learn"));
  EXPECT_TRUE(says(error_of(R"({"messages":"x"})"), "a list of messages"));
  EXPECT_TRUE(says(error_of(R"({"text":3})"), "key 'text'"));
  EXPECT_TRUE(says(error_of(R"({"conversations":[{"from":"tool","value":"x"}]})"), "from 'tool'"));
}

}  // namespace
}  // namespace bezel::data
