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
  EXPECT_EQ(read(R"({"prompt":"<bos>a","completion":"b<eos>"})").text, "<bos>ab<eos>");
}

TEST(SampleForms, InstructionsAndShareGptBecomeChats) {
  EXPECT_EQ(read(R"({"instruction":"Add","input":"1 2","output":"3"})").text,
            "<bos><|turn>user\nAdd\n\n1 2<turn|>\n<|turn>model\n3<turn|>\n");
  const auto shared = read(R"({"conversations":[{"from":"human","value":"<image>What?"},{"from":"gpt","value":"A cat"}],
      "images":["c.png"]})");
  EXPECT_EQ(shared.text, "<bos><|turn>user\n<|image|>What?<turn|>\n<|turn>model\nA cat<turn|>\n");
  EXPECT_EQ(shared.media.at(0).path, "c.png");
}

TEST(SampleForms, TrainOnInputsLearnsAllText) {
  SampleOptions options;
  options.train_on_inputs = true;
  EXPECT_EQ(loss_text(read(R"({"prompt":"one ","completion":"two"})", options)), "one two<eos>|");
  EXPECT_EQ(loss_text(read(R"({"prompt":[{"role":"user","content":"a"}],"completion":"b"})", options)),
            "<|turn>user\na<turn|>\n<|turn>model\nb<turn|>\n|");
}

TEST(SampleForms, TrainOnInputsLeavesOutWhatSaysSo) {
  SampleOptions options;
  options.train_on_inputs = true;
  const auto sample =
      read(R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b","train":false},
      {"role":"user","content":"c","train":false},{"role":"assistant","content":"d"}]})",
           options);
  EXPECT_EQ(loss_text(sample), "<|turn>user\na<turn|>\n|<|turn>model\nd<turn|>\n|");
}

TEST(SampleForms, MaskHistoryLearnsTheLastAnswer) {
  SampleOptions options;
  options.chat.mask_history = true;
  const std::string chat = R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},
      {"role":"user","content":"c"},{"role":"assistant","content":"d"}]})";
  EXPECT_EQ(loss_text(read(chat, options)), "d<turn|>|");
  EXPECT_EQ(loss_text(read(chat)), "b<turn|>|d<turn|>|");
}

TEST(SampleForms, EverySpellingOfAMaskedTurnIsRead) {
  const auto chat = [](const std::string& key) {
    return R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b",)" + key +
           R"(},{"role":"user","content":"c"},{"role":"assistant","content":"d"}]})";
  };
  for (const char* key : {R"("train":false)", R"("loss":false)", R"("weight":0)", R"("weight":0.0)",
                          R"("learn":"False")", R"("loss":"0")", R"("trainable":0)", R"("mask":true)", R"("masked":1)"})
    EXPECT_EQ(loss_text(read(chat(key))), "d<turn|>|") << key;
  for (const char* key : {R"("train":true)", R"("loss":1)", R"("weight":1.0)", R"("mask":false)", R"("loss":null)"})
    EXPECT_EQ(loss_text(read(chat(key))), "b<turn|>|d<turn|>|") << key;
  EXPECT_TRUE(says(error_of(chat(R"("weight":0.5)")), "weight"));
  EXPECT_TRUE(says(error_of(chat(R"("loss":"maybe")")), "got \"maybe\""));
  EXPECT_TRUE(says(error_of(chat(R"("train":true,"weight":0)")), "message 1: two keys disagree"));
  EXPECT_EQ(loss_text(read(R"({"conversations":[{"from":"human","value":"a"},{"from":"gpt","value":"b","loss":false},
      {"from":"human","value":"c"},{"from":"gpt","value":"d","weight":1}]})")),
            "d<turn|>|");
}

TEST(SampleForms, ToolsMayBeWrittenAsText) {
  const std::string rest = R"(,"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]})";
  const std::string wrapped = read(R"({"tools":[{"type":"function","function":{"name":"f"}}])" + rest).text;
  EXPECT_EQ(wrapped.find("<bos><|turn>system\n<|tool>declaration:f{"), 0u);
  EXPECT_EQ(read(R"({"tools":"[{\"name\":\"f\"}]")" + rest).text, wrapped);
  EXPECT_TRUE(says(error_of(R"({"tools":"[{")" + rest), "key 'tools': not valid JSON"));
  EXPECT_TRUE(says(error_of(R"({"tools":"{}")" + rest), "key 'tools': got"));
  EXPECT_TRUE(says(error_of(R"({"tools":[{"description":"x"}])" + rest), "name"));
}

TEST(SampleMedia, PartsAndListsAreTakenInOrder) {
  const auto sample = read(R"({"messages":[{"role":"user","content":[{"type":"image","path":"1.png"},{"type":"audio"},
      {"type":"image"},{"type":"image_url","image_url":{"url":"data:image/png;base64,Zm9v"}},
      {"type":"input_audio","input_audio":{"data":"YmFy","format":"wav"}}]},{"role":"assistant","content":"a"}],
      "images":["2.png"],"audios":[{"path":"1.wav"}]})");
  ASSERT_EQ(sample.media.size(), 5u);
  EXPECT_EQ(sample.media[0].path, "1.png");
  EXPECT_EQ(sample.media[1].path, "1.wav");
  EXPECT_EQ(sample.media[1].kind, MediaKind::kAudio);
  EXPECT_EQ(sample.media[2].path, "2.png");
  EXPECT_EQ(sample.media[2].kind, MediaKind::kImage);
  EXPECT_EQ(sample.media[3].bytes, "foo");
  EXPECT_EQ(sample.media[4].bytes, "bar");
}

TEST(SampleMedia, EveryPartThatCarriesItsFile) {
  const auto image = [](const std::string& part) {
    return read(R"({"messages":[{"role":"user","content":[)" + part + R"(]},{"role":"assistant","content":"a"}]})");
  };
  EXPECT_EQ(image(R"({"type":"image","url":"1.png"})").media.at(0).path, "1.png");
  EXPECT_EQ(image(R"({"type":"image","image":"1.png"})").media.at(0).path, "1.png");
  EXPECT_EQ(image(R"({"type":"image","base64":"Zm9v"})").media.at(0).bytes, "foo");
  EXPECT_EQ(image(R"({"type":"image_url","image_url":"1.png"})").media.at(0).path, "1.png");
  EXPECT_EQ(image(R"({"type":"input_image","image_url":"data:image/png;base64,Zm9v"})").media.at(0).bytes, "foo");
  EXPECT_EQ(image(R"({"type":"audio_url","audio_url":{"url":"1.wav"}})").media.at(0).path, "1.wav");
  EXPECT_EQ(image(R"({"type":"input_audio","input_audio":{"data":"data:audio/wav;base64,YmFy"}})").media.at(0).bytes,
            "bar");
}

TEST(SampleMedia, BareBase64IsToldFromPathsByItsFirstBytes) {
  const auto image = [](const std::string& text) {
    return read(R"({"text":"<|image|>","images":[")" + text + R"("]})").media.at(0);
  };
  const std::string zeros(40, 'A');
  EXPECT_EQ(image("iVBORw0KGgoA" + zeros).bytes.substr(0, 9), std::string("\x89PNG\r\n\x1A\n\0", 9));
  EXPECT_EQ(image("/9j/" + zeros).bytes.substr(0, 3), "\xFF\xD8\xFF");
  EXPECT_EQ(image("UklGRiAA" + zeros).bytes.substr(0, 4), "RIFF");
  EXPECT_EQ(image("/9j/a.png").path, "/9j/a.png");
  EXPECT_EQ(image("/9j/" + zeros + ".jpg").path, "/9j/" + zeros + ".jpg");
  EXPECT_TRUE(says(error_of(R"({"text":"<|image|>","images":["/9j/)" + zeros + R"(!"]})"), "not base64"));
}

TEST(SampleMedia, TagsInTextsAreFilledFromTheLists) {
  const std::string chat =
      R"({"messages":[{"role":"user","content":"<image>What?"},{"role":"assistant","content":"<image>"}])";
  const auto sample = read(chat + R"(,"images":["1.png"]})");
  EXPECT_EQ(sample.text, "<bos><|turn>user\n<|image|>What?<turn|>\n<|turn>model\n<image><turn|>\n");
  EXPECT_EQ(sample.media.at(0).path, "1.png");
  // Without a list the tag is text like any other.
  EXPECT_EQ(read(chat + "}").text, "<bos><|turn>user\n<image>What?<turn|>\n<|turn>model\n<image><turn|>\n");
}

TEST(SampleMedia, BadMediaNameTheLine) {
  const auto error = [](const std::string& part) {
    return error_of(R"({"messages":[{"role":"user","content":[)" + part + R"(]},{"role":"assistant","content":"a"}]})");
  };
  EXPECT_TRUE(says(error(R"({"type":"video","frames":["1.png","2.png"]})"), "needs their rate"));
  EXPECT_TRUE(says(error(R"({"type":"video","frames":[],"fps":2})"), "a video without frames"));
  EXPECT_TRUE(says(error(R"({"type":"image","path":"1.png","fps":2})"), "fps' is not used"));
  EXPECT_TRUE(says(error(R"({"type":"video","path":"v.mp4","max_frames":8})"), "video_frames in the config"));
  EXPECT_TRUE(says(error(R"({"type":"image_url","image_url":{"url":"data:image/png,raw"}})"), "without ';base64,'"));
  EXPECT_TRUE(says(error(R"({"type":"input_audio","input_audio":{"data":"!!"}})"), "not base64"));
  EXPECT_TRUE(says(error(R"({"type":"input_audio","input_audio":{"format":"wav"}})"), "url"));
  EXPECT_TRUE(says(error(R"({"type":"picture","path":"1.png"})"), "type 'picture'"));
  EXPECT_TRUE(says(error_of(R"({"text":"q","images":["1.png"]})"),
                   "holds 0 <|image|>, but 1 images are given; write <|image|> where each belongs"));
  EXPECT_TRUE(says(error_of(R"({"messages":[{"role":"user","content":"<image>"},{"role":"assistant","content":"a"}],
      "images":["1.png","2.png"]})"),
                   "holds 1 <|image|>, but 2 images are given"));
  EXPECT_TRUE(says(error_of(R"({"text":"<|image|>","images":[3]})"), "images"));
}

TEST(SampleMedia, AVideoIsAFileAFolderOrItsFrames) {
  const auto video = [](const std::string& part) {
    return read(R"({"messages":[{"role":"user","content":[)" + part + R"(]},{"role":"assistant","content":"a"}]})")
        .media.at(0);
  };
  for (const char* part :
       {R"({"type":"video","video":"v.mp4"})", R"({"type":"video","path":"v.mp4"})",
        R"({"type":"video","url":"v.mp4"})", R"({"type":"video_url","video_url":{"url":"v.mp4"}})"}) {
    EXPECT_EQ(video(part).kind, MediaKind::kVideo) << part;
    EXPECT_EQ(video(part).path, "v.mp4") << part;
    EXPECT_FALSE(video(part).fps) << part;
  }
  for (const char* part : {R"({"type":"video","frames":["1.png","2.png"],"fps":2.5})",
                           R"({"type":"video","video":["1.png","2.png"],"fps":2.5})",
                           R"({"type":"video","video":{"frames":["1.png","2.png"],"fps":2.5}})"}) {
    EXPECT_EQ(video(part).frames, (std::vector<std::string>{"1.png", "2.png"})) << part;
    EXPECT_EQ(video(part).fps, 2.5) << part;
    EXPECT_EQ(video(part).path, "") << part;
  }
  const MediaSource folder = video(R"({"type":"video","path":"frames","fps":2})");
  EXPECT_EQ(folder.path, "frames");
  EXPECT_EQ(folder.fps, 2.0);
  EXPECT_EQ(read(R"({"text":"<video> and <|image|>","images":["1.png"],"videos":["v.mp4"]})").text,
            "<bos><|video|> and <|image|><eos>");
}

TEST(SampleMedia, TypedPlaceholdersMustMatchTheMedia) {
  EXPECT_EQ(read(R"({"text":"<|image|> and <|image|>","images":["1.png","2.png"]})").media.size(), 2u);
  EXPECT_TRUE(says(error_of(R"({"text":"<|image|>"})"), "holds 1 <|image|>, but 0 images are given"));
  EXPECT_TRUE(says(error_of(R"({"text":"x","audios":["1.wav"]})"), "holds 0 <|audio|>, but 1 audios are given"));
  EXPECT_TRUE(says(error_of(R"({"text":"<|video|>"})"), "holds 1 <|video|>, but 0 videos are given"));
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
  EXPECT_TRUE(says(error_of(R"({"conversations":[{"from":"robot","value":"x"}]})"), "from 'robot'"));
}

}  // namespace
}  // namespace bezel::data
