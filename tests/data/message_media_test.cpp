#include "bezel/data/message_media.h"

#include <string>

#include <gtest/gtest.h>

#include "bezel/data/sample_text.h"
#include "support/temp_folder.h"

namespace bezel::data {
namespace {

using test::error_of;
using test::says;

SampleText read(const std::string& user, const std::string& rest = "") {
  const std::string line =
      R"({"messages":[{"role":"user",)" + user + R"(},{"role":"assistant","content":"a"}])" + rest + "}";
  return read_sample(io::parse_json(line, "t.jsonl:4"), "t.jsonl:4");
}

std::string user_text(const SampleText& sample) {
  const std::string begin = "<bos><|turn>user\n", end = "<turn|>\n<|turn>model\na<turn|>\n";
  EXPECT_TRUE(sample.text.starts_with(begin) && sample.text.ends_with(end)) << sample.text;
  return sample.text.substr(begin.size(), sample.text.size() - begin.size() - end.size());
}

TEST(MessageMedia, UnmarkedMediaComeBeforeTheText) {
  for (const char* list : {R"("images":["1.png","2.png"])", R"("images":["1.png",{"path":"2.png"}])"}) {
    const SampleText sample = read(std::string(R"("content":"q",)") + list);
    EXPECT_EQ(user_text(sample), "<|image|><|image|>q") << list;
    ASSERT_EQ(sample.media.size(), 2u) << list;
    EXPECT_EQ(sample.media[0].path, "1.png");
    EXPECT_EQ(sample.media[1].path, "2.png");
  }
  EXPECT_EQ(read(R"("content":"q","image":"1.png")").media.at(0).path, "1.png");
  const SampleText sound = read(R"("content":"q","audio":{"path":"1.wav"})");
  EXPECT_EQ(user_text(sound), "<|audio|>q");
  EXPECT_EQ(sound.media.at(0).path, "1.wav");
}

TEST(MessageMedia, MarksInTheContentAreFilledInOrder) {
  for (const char* content :
       {R"("one <image> two <image>")", R"("one <|image|> two <image>")",
        R"([{"type":"text","text":"one "},{"type":"image"},{"type":"text","text":" two "},{"type":"image"}])"}) {
    const SampleText sample = read(std::string(R"("images":["1.png","2.png"],"content":)") + content);
    EXPECT_EQ(user_text(sample), "one<|image|>two<|image|>") << content;
    EXPECT_EQ(sample.media.at(0).path, "1.png");
    EXPECT_EQ(sample.media.at(1).path, "2.png");
  }
}

TEST(MessageMedia, EachMessageTakesItsOwn) {
  const std::string line =
      R"({"messages":[{"role":"user","content":"q","images":["1.png"]},{"role":"assistant","content":"a"},
      {"role":"user","content":"r","images":["2.png"]},{"role":"assistant","content":"b"}]})";
  const SampleText sample = read_sample(io::parse_json(line, "t.jsonl:4"), "t.jsonl:4");
  EXPECT_EQ(sample.text,
            "<bos><|turn>user\n<|image|>q<turn|>\n<|turn>model\na<turn|>\n<|turn>user\n<|image|>r<turn|>\n"
            "<|turn>model\nb<turn|>\n");
  EXPECT_EQ(sample.media.at(1).path, "2.png");
}

TEST(MessageMedia, PlacesAndMediaMustMatch) {
  EXPECT_TRUE(says(error_of([] { read(R"("content":"<image><image>","images":["1.png"])"); }),
                   "t.jsonl:4: message 0: marks more places for 'images' than the 1"));
  EXPECT_EQ(user_text(read(R"("content":"<image>","images":[])")), "<image>");
  EXPECT_NE(error_of([] { read(R"("content":"q","images":["1.png"])", R"(,"images":["2.png"])"); }), "");
}

}  // namespace
}  // namespace bezel::data
