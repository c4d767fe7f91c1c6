#include "bezel/data/sample_columns.h"

#include <string>

#include <gtest/gtest.h>

#include "bezel/data/answer.h"
#include "bezel/data/sample_text.h"
#include "support/temp_folder.h"

namespace bezel::data {
namespace {

using test::error_of;
using test::says;

SampleText read(const std::string& line, const SampleOptions& options = {}) {
  return read_sample(io::parse_json(line, "t.jsonl:4"), "t.jsonl:4", options);
}

std::string failure(const std::string& line) {
  return error_of([&] { read(line); });
}

const std::string kChat = R"("messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]})";

TEST(SampleColumns, SystemComesBeforeMessages) {
  const std::string text = "<bos><|turn>system\ns<turn|>\n<|turn>user\nq<turn|>\n<|turn>model\na<turn|>\n";
  EXPECT_EQ(read(R"({"system":"s",)" + kChat).text, text);
  EXPECT_EQ(read(R"({"system":"s","prompt":[{"role":"user","content":"q"}],"completion":"a"})").text, text);
  EXPECT_EQ(read(R"({"system":"s","instruction":"q","output":"a"})").text, text);
  EXPECT_EQ(read(R"({"system_prompt":"s",)" + kChat).text, text);
  EXPECT_TRUE(says(failure(R"({"system":"s","messages":[{"role":"system","content":"t"},{"role":"user","content":"q"},
      {"role":"assistant","content":"a"}]})"),
                   "key 'system' stands beside"));
  EXPECT_TRUE(says(failure(R"({"system":"s","prompt":"q","completion":"a"})"), "key 'system' is not used"));
}

TEST(SampleColumns, TagsOfPromptsAndPlainTextsAreFilled) {
  const auto prompt = read(R"({"image":"c.png","prompt":"<image>What is it?","completion":"<b>"})");
  EXPECT_EQ(prompt.text, "<bos><|image|>What is it?<b><eos>");
  EXPECT_EQ(prompt.media.at(0).path, "c.png");
  EXPECT_EQ(read(R"({"images":["c.png"],"text":"a <image> b"})").text, "<bos>a <|image|> b<eos>");
  EXPECT_EQ(read(R"({"prompt":"<image>","completion":"c"})").text, "<bos><image>c<eos>");
  EXPECT_TRUE(says(failure(R"({"image":"c.png","prompt":"What is it?","completion":"c"})"),
                   "write <|image|> where each belongs in the text"));
}

TEST(SampleColumns, OneMediumIsAListOfOne) {
  const auto sample = read(R"({"image":"c.png","messages":[{"role":"user","content":[{"type":"image"},
      {"type":"text","text":"q"}]},{"role":"assistant","content":"a"}]})");
  EXPECT_EQ(sample.media.at(0).path, "c.png");
  const auto llava = read(R"({"id":"1","image":"c.png","conversations":[{"from":"human","value":"<image>\nq"},
      {"from":"gpt","value":"a"}]})");
  EXPECT_EQ(llava.text, "<bos><|turn>user\n<|image|>q<turn|>\n<|turn>model\na<turn|>\n");
  EXPECT_EQ(llava.media.at(0).path, "c.png");
  EXPECT_TRUE(says(failure(R"({"image":"c.png","images":["d.png"],)" + kChat), "side by side"));
}

TEST(SampleColumns, MessagesMayBeWrittenAsText) {
  EXPECT_EQ(
      read(R"({"messages":"[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":\"a\"}]"})").text,
      read("{" + kChat).text);
  EXPECT_TRUE(says(failure(R"({"messages":"[{"})"), "key 'messages'"));
  EXPECT_TRUE(says(failure(R"({"messages":"[{'role': 'user'}]"})"), "as Python's json.dumps writes it"));
  EXPECT_EQ(read(R"({"images":"[\"1.png\"]",)" + kChat).media.at(0).path, "1.png");
  EXPECT_EQ(read(R"({"images":"1.png",)" + kChat).media.at(0).path, "1.png");
}

TEST(SampleColumns, VideosAreListedAsImagesAre) {
  EXPECT_EQ(read(R"({"videos":[],)" + kChat).text, read("{" + kChat).text);
  for (const char* line : {R"({"videos":["a.mp4"],)", R"({"video":"a.mp4",)", R"({"video_path":"a.mp4",)"}) {
    const SampleText sample = read(line + kChat);
    EXPECT_EQ(sample.text, "<bos><|turn>user\n<|video|>q<turn|>\n<|turn>model\na<turn|>\n") << line;
    EXPECT_EQ(sample.media.at(0).kind, MediaKind::kVideo);
    EXPECT_EQ(sample.media.at(0).path, "a.mp4");
  }
  const SampleText described = read(R"({"file_name":"a.MP4","caption":"a cat"})");
  EXPECT_EQ(described.text, "<bos><|turn>user\n<|video|>Describe the video.<turn|>\n<|turn>model\na cat<turn|>\n");
  EXPECT_TRUE(says(failure(R"({"video":"a.mp4","videos":["b.mp4"],)" + kChat), "side by side"));
}

TEST(SampleColumns, ARecordingAndItsTextAreATranscription) {
  const std::string text = "<bos><|turn>user\n<|audio|>Transcribe the audio.<turn|>\n<|turn>model\ntwo tones<turn|>\n";
  for (const char* line : {R"({"audio":"a.wav","text":"two tones"})", R"({"audio":"a.wav","sentence":"two tones"})",
                           R"({"audio":{"path":"a.wav","bytes":null},"transcription":"two tones"})",
                           R"({"audio_filepath":"a.wav","text":"two tones","duration":1.5,"offset":0})",
                           R"({"file_name":"a.wav","text":"two tones"})",
                           R"({"client_id":"7","path":"a.wav","sentence":"two tones","up_votes":2,"accents":""})",
                           R"({"file":"/x/a.wav","audio":{"path":"a.wav"},"text":"two tones","chapter_id":1})"}) {
    const auto sample = read(line);
    EXPECT_EQ(sample.text, text) << line;
    EXPECT_EQ(sample.media.at(0).path, "a.wav") << line;
  }
  EXPECT_EQ(read(R"({"audio":"a.wav","prompt":"Listen.","text":"b"})").text,
            "<bos><|turn>user\n<|audio|>Listen.<turn|>\n<|turn>model\nb<turn|>\n");
  EXPECT_TRUE(says(failure(R"({"audio":"a.wav","text":"b","offset":3.5})"), "cut the audio clip"));
  EXPECT_TRUE(says(failure(R"({"audio":"a.wav","text":"b","sentence":"c"})"), "both give the answer"));
}

TEST(SampleColumns, AnImageAndItsTextAreADescription) {
  const std::string text = "<bos><|turn>user\n<|image|>Describe the image.<turn|>\n<|turn>model\nA cat.<turn|>\n";
  for (const char* line : {R"({"file_name":"c.png","text":"A cat."})", R"({"image":"c.png","caption":"A cat."})",
                           R"({"image_path":"c.png","text":"A cat."})",
                           R"({"image":{"bytes":null,"path":"c.png"},"caption":"A cat.","width":4})"}) {
    EXPECT_EQ(read(line).text, text) << line;
    EXPECT_EQ(read(line).media.at(0).path, "c.png") << line;
  }
  EXPECT_EQ(read(R"({"image":"c.png","question":"What?","answer":"A cat."})").text,
            "<bos><|turn>user\n<|image|>What?<turn|>\n<|turn>model\nA cat.<turn|>\n");
  EXPECT_EQ(read(R"({"images":["c.png"],"question":"What?","answer":"A cat."})").text,
            "<bos><|turn>user\n<|image|>What?<turn|>\n<|turn>model\nA cat.<turn|>\n");
  EXPECT_EQ(read(R"({"file_name":"c.png","text":"A cat.","prompt":"What is it?"})").text,
            "<bos><|turn>user\n<|image|>What is it?<turn|>\n<|turn>model\nA cat.<turn|>\n");
  EXPECT_TRUE(says(failure(R"({"file_name":"c.xyz","text":"A cat."})"), "is no kind of file that is read"));
}

TEST(SampleColumns, ToolsOfOtherNamesAreTools) {
  const std::string own = R"([{"name":"f","parameters":{"type":"object","properties":{"p":{"type":"string"}}}}],)";
  const std::string text = read(R"({"tools":)" + own + kChat).text;
  EXPECT_NE(text.find("properties:{p:{type:"), std::string::npos);
  EXPECT_EQ(read(R"({"functions":)" + own + kChat).text, text);
  const std::string other = R"([{"name":"f","input_schema":{"type":"object","properties":{"p":{"type":"string"}}}}],)";
  EXPECT_EQ(read(R"({"tools":)" + other + kChat).text, text);
}

TEST(SampleColumns, ListedMediaComeBeforeTheFirstUserText) {
  const auto sample = read(R"({"images":["1.png","2.png"],)" + kChat);
  EXPECT_EQ(sample.text, "<bos><|turn>user\n<|image|><|image|>q<turn|>\n<|turn>model\na<turn|>\n");
  EXPECT_EQ(sample.media.size(), 2u);
}

TEST(SampleColumns, TagsAreTextWithoutMedia) {
  EXPECT_EQ(read(R"({"instruction":"Use <audio>","output":"<image>","images":[]})").text,
            "<bos><|turn>user\nUse <audio><turn|>\n<|turn>model\n<image><turn|>\n");
  EXPECT_EQ(read(R"({"conversations":[{"from":"human","value":"<image>"},{"from":"gpt","value":"<audio>"}]})").text,
            "<bos><|turn>user\n<image><turn|>\n<|turn>model\n<audio><turn|>\n");
}

TEST(SampleColumns, ThinkingOfALineIsHonoured) {
  const std::string line = R"({"chat_template_kwargs":{"enable_thinking":true},)" + kChat;
  const std::string text = "<bos><|turn>system\n<|think|>\n<turn|>\n<|turn>user\nq<turn|>\n<|turn>model\n";
  EXPECT_EQ(read(line).text, text + "a<turn|>\n");
  EXPECT_EQ(split_answer(read(line), ChatFormat::kLarge)->prompt.text, text);
  EXPECT_TRUE(says(failure(R"({"chat_template_kwargs":{"reasoning_effort":"low"},)" + kChat),
                   "key 'chat_template_kwargs.reasoning_effort' is not supported"));
}

TEST(SampleColumns, BytesOfTheDataSetsLibraryAreRead) {
  const auto sample = read(R"({"images":[{"bytes":"Zm9v","path":"c.png"}],)" + kChat);
  EXPECT_EQ(sample.media.at(0).bytes, "foo");
  EXPECT_EQ(read(R"({"images":[{"bytes":null,"path":"c.png"}],)" + kChat).media.at(0).path, "c.png");
}

}  // namespace
}  // namespace bezel::data
