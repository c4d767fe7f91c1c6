#include "bezel/data/dataset.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <set>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "bezel/error.h"

namespace bezel::data {
namespace {

namespace fs = std::filesystem;

// A PNG of 96x48 pixels in one color.
constexpr const char* kPng =
    "iVBORw0KGgoAAAANSUhEUgAAAGAAAAAwCAIAAABhdOiYAAAAWUlEQVR42u3QMQ0AMAgAsLETEfiXgiwUIICkldDIrsfuKxAkSJAgQYIECUKQIEGCBA"
    "kSJAhBggQJEiRIkCAECRIkSJAgQYIEIUiQIEGCBAkShCBBggQJumEALc8BUA7aaksAAAAASUVORK5CYII=";

std::shared_ptr<const Tokenizer> tiny() {
  static const auto tokenizer =
      std::make_shared<const Tokenizer>(Tokenizer::from_file(std::string(BEZEL_TEST_DATA) + "/tiny_tokenizer.json"));
  return tokenizer;
}

std::string chat_line(const std::string& question, const std::string& answer) {
  return R"({"messages":[{"role":"user","content":")" + question + R"("},{"role":"assistant","content":")" + answer +
         "\"}]}\n";
}

// 16-bit mono PCM at 16 kHz, a ramp.
std::string wav(std::uint32_t samples) {
  const auto number = [](std::uint32_t value, int bytes) {
    std::string out;
    for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> 8 * i & 0xFF);
    return out;
  };
  std::string out = "RIFF" + number(36 + 2 * samples, 4) + "WAVEfmt " + number(16, 4) + number(1, 2) + number(1, 2) +
                    number(16000, 4) + number(32000, 4) + number(2, 2) + number(16, 2) + "data" +
                    number(2 * samples, 4);
  for (std::uint32_t i = 0; i < samples; ++i) out += number(i % 1000, 2);
  return out;
}

class DatasetTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = ::testing::TempDir() + "bezel_dataset_" + std::to_string(::getpid());
    fs::create_directories(folder_);
    options_.file = folder_ + "/t.jsonl";
    options_.ids.of[MediaKind::kImage] = tiny()->token_id("<|image|>").value();
    options_.ids.of[MediaKind::kAudio] = tiny()->token_id("<|audio|>").value();
    options_.ids.of[MediaKind::kVideo] = tiny()->token_id("<|video|>").value();
  }
  void TearDown() override { fs::remove_all(folder_); }

  void write(const std::string& name, const std::string& bytes) {
    std::ofstream(folder_ + "/" + name, std::ios::binary) << bytes;
  }
  Dataset open(const std::string& text) {
    write("t.jsonl", text);
    return Dataset(options_, tiny());
  }
  std::string error_of(const std::string& text) {
    try {
      open(text);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  }

  std::string folder_;
  DatasetOptions options_;
};

// Audio clips of one length have one size, and may all begin with silence.
TEST_F(DatasetTest, FingerprintTellsMediaOfTheSameSizeApart) {
  const std::string line = R"({"text":"<|audio|>a","audios":["a.wav"]})";
  const std::string sound = wav(16000);
  const auto fingerprint_of = [&](const std::string& bytes) {
    write("a.wav", bytes);
    return open(line).fingerprint();
  };
  const std::string before = fingerprint_of(sound);
  EXPECT_EQ(fingerprint_of(sound), before);
  for (const std::size_t at : {std::size_t{100}, sound.size() / 2, sound.size() - 1}) {
    std::string other = sound;
    other[at] ^= 1;
    EXPECT_NE(fingerprint_of(other), before) << at;
  }
}

// What transformers' processors would give for the same samples, padded on the right.
RawInputs raw_of(const std::vector<Sample>& samples, std::int64_t pad_id) {
  std::vector<at::Tensor> ids, labels, mask, types;
  for (const Sample& sample : samples) {
    ids.push_back(at::tensor(sample.input_ids, at::kLong));
    labels.push_back(at::tensor(sample.labels, at::kLong));
    types.push_back(at::tensor(sample.token_types, at::kLong));
    mask.push_back(at::ones({ids.back().size(0)}, at::kLong));
  }
  RawInputs raw;
  raw.input_ids = at::pad_sequence(ids, true, static_cast<double>(pad_id));
  raw.labels = at::pad_sequence(labels, true, static_cast<double>(kIgnoreLabel));
  raw.attention_mask = at::pad_sequence(mask, true, 0);
  raw.mm_token_type_ids = at::pad_sequence(types, true, 0);
  return raw;
}

void expect_same(const Batch& got, const Batch& want) {
  EXPECT_TRUE(at::equal(got.input_ids, want.input_ids));
  EXPECT_TRUE(at::equal(got.attention_mask, want.attention_mask));
  EXPECT_TRUE(at::equal(got.mm_token_type_ids, want.mm_token_type_ids));
  EXPECT_TRUE(at::equal(got.label_flat_index, want.label_flat_index));
  EXPECT_TRUE(at::equal(got.label_ids, want.label_ids));
  EXPECT_TRUE(at::equal(got.placeholder_rows, want.placeholder_rows));
  EXPECT_TRUE(at::equal(got.soft_rows, want.soft_rows));
  EXPECT_EQ(got.num_tokens, want.num_tokens);
  EXPECT_EQ(got.has_padding, want.has_padding);
}

TEST_F(DatasetTest, LoadsSamplesInAnyOrder) {
  const Dataset data = open(chat_line("one", "two") + "\n" + chat_line("three", "four"));
  ASSERT_EQ(data.size(), 2u);
  const Sample second = data.load(1);
  EXPECT_EQ(second.line, 3u);
  EXPECT_EQ(tiny()->decode(second.input_ids), "<bos><|turn>user\nthree<turn|>\n<|turn>model\nfour<turn|>\n");
  EXPECT_EQ(second.input_ids.size(), data.num_tokens(1));
  EXPECT_EQ(tiny()->decode(data.load(0).input_ids), "<bos><|turn>user\none<turn|>\n<|turn>model\ntwo<turn|>\n");
  EXPECT_EQ(data.report().num_tokens, data.num_tokens(0) + data.num_tokens(1));
}

TEST_F(DatasetTest, ABadLineStopsOrIsListed) {
  const std::string text = chat_line("a", "b") + "{\"messages\": [}\n" +
                           R"({"messages":[{"role":"user","content":"q"}]})" + "\n" + chat_line("c", "d");
  EXPECT_EQ(error_of(text).find(options_.file + ":2: not valid JSON"), 0u);
  options_.skip_bad_samples = true;
  const Dataset data = open(text);
  EXPECT_EQ(data.size(), 2u);
  EXPECT_EQ(data.line(1), 4u);
  EXPECT_EQ(data.report().num_bad, 2u);
  ASSERT_EQ(data.report().bad.size(), 2u);
  EXPECT_EQ(data.report().bad[1].find(options_.file + ":3: no assistant turn"), 0u);
}

TEST_F(DatasetTest, NothingLeftIsRefusedWithCounts) {
  EXPECT_NE(error_of("").find("empty"), std::string::npos);
  EXPECT_NE(error_of("\n \n").find("empty"), std::string::npos);
  options_.max_seq_length = 4;
  options_.skip_bad_samples = true;
  EXPECT_NE(error_of(chat_line("a", "b") + chat_line("c", "d") + "{}\n")
                .find("of 3 lines 1 are bad and 2 are longer than max_seq_length = 4"),
            std::string::npos);
}

TEST_F(DatasetTest, LongSamplesAreCutOrDropped) {
  const std::string lines =
      chat_line("a", "b") + chat_line("a", std::string(400, 'x')) + chat_line(std::string(400, 'x'), "b");
  options_.max_seq_length = 40;
  const Dataset data = open(lines);
  EXPECT_EQ(data.size(), 2u);
  EXPECT_EQ(data.report().num_cut, 1u);
  EXPECT_EQ(data.report().num_too_long, 1u);
  EXPECT_EQ(data.load(1).input_ids.size(), 40u);
}

TEST_F(DatasetTest, WhatIsLeftOutIsCountedWithItsFirstLine) {
  options_.max_seq_length = 40;
  const std::string thought =
      R"({"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a","reasoning":"hm"}]})"
      "\n";
  const Dataset data =
      open(chat_line("a", "b") + thought + thought + chat_line("q", "") + chat_line(std::string(400, 'x'), "b"));
  EXPECT_EQ(data.report().thoughts.count, 2u);
  EXPECT_EQ(data.report().thoughts.first, options_.file + ":2");
  EXPECT_EQ(data.report().empty_answers.count, 1u);
  EXPECT_EQ(data.report().empty_answers.first, options_.file + ":4");
  EXPECT_EQ(data.report().first_too_long, options_.file + ":5");
  EXPECT_EQ(data.left_out_notes().size(), 3u);
}

TEST_F(DatasetTest, IdsOfTokenizerAndConfigMustAgree) {
  options_.ids.of[MediaKind::kImage] += 1;
  EXPECT_NE(error_of(chat_line("a", "b")).find("config.json says"), std::string::npos);
}

TEST_F(DatasetTest, MediaBecomeSoftTokens) {
  write("a.png", decode_base64(kPng, "test"));
  write("a.wav", wav(16000));
  const std::string line = R"({"messages":[{"role":"user","content":[{"type":"image","path":"a.png"},
      {"type":"audio","path":"a.wav"},{"type":"image_url","image_url":{"url":"data:image/png;base64,)" +
                           std::string(kPng) +
                           R"("}},{"type":"text","text":"?"}]},{"role":"assistant","content":"b"}]})";
  std::string one_line = line;
  one_line.erase(std::remove(one_line.begin(), one_line.end(), '\n'), one_line.end());
  const Dataset data = open(one_line + "\n" + chat_line("a", "b"));
  const std::vector<Sample> samples = {data.load(0), data.load(1)};
  const std::vector<Media>& media = samples[0].media;
  ASSERT_EQ(media.size(), 3u);
  EXPECT_EQ(media[0].kind, MediaKind::kImage);
  EXPECT_EQ(media[1].kind, MediaKind::kAudio);
  EXPECT_EQ(media[2].kind, MediaKind::kImage);
  const auto count = [&](std::int64_t type) {
    return std::count(samples[0].token_types.begin(), samples[0].token_types.end(), type);
  };
  EXPECT_EQ(count(1), media[0].num_soft_tokens + media[2].num_soft_tokens);
  EXPECT_EQ(count(3), media[1].num_soft_tokens);
  EXPECT_GE(data.num_tokens(0), samples[0].input_ids.size());
  EXPECT_LE(data.num_tokens(0), samples[0].input_ids.size() + 1);
  const Batch batch = collate(samples, 0);
  EXPECT_EQ(batch.media.size(), 3u);
  EXPECT_EQ(batch.soft_rows.size(0), count(1) + count(3));
  EXPECT_TRUE(at::equal(batch.soft_rows, batch.placeholder_rows));
}

TEST_F(DatasetTest, AVideoIsItsFrames) {
  for (const char* name : {"1.png", "2.png", "3.png"}) write(name, decode_base64(kPng, "t"));
  const std::string text = R"({"text":"<|video|> and <|image|>","images":["1.png"],"videos":[)"
                           R"({"frames":["1.png","2.png","3.png"],"fps":0.5}]})";
  options_.media.video.num_frames = 2;
  const Dataset data = open(text + "\n");
  const Sample sample = data.load(0);
  ASSERT_EQ(sample.media.size(), 3u) << "two of three frames, and the image";
  EXPECT_EQ(sample.media[1].kind, MediaKind::kVideo);
  EXPECT_EQ(sample.media[1].features.scalar_type(), torch::kByte);
  EXPECT_EQ(sample.media[2].kind, MediaKind::kImage);
  const auto frames = std::ranges::count(sample.token_types, 2);
  EXPECT_EQ(frames, 2 * sample.media[0].num_soft_tokens);
  EXPECT_EQ(data.num_tokens(0), sample.input_ids.size());
  EXPECT_EQ(data.sample_size(0).media[MediaKind::kVideo].items, 1u);
  EXPECT_EQ(data.sample_size(0).media[MediaKind::kVideo].soft_tokens, static_cast<std::size_t>(frames));
  EXPECT_EQ(data.media(0).at(0).tokens.times, (std::vector<std::string>{"00:00", "00:02"}));
  EXPECT_EQ(collate({&sample, 1}, 0).media.size(), 3u);
  options_.ids.of[MediaKind::kVideo] += 1;
  EXPECT_NE(error_of(text + "\n").find("but config.json says"), std::string::npos);
}

TEST_F(DatasetTest, MediaErrorsNameTheLine) {
  const auto line = [](const std::string& path) { return R"({"text":"<|image|>","images":[")" + path + "\"]}\n"; };
  write("bad.png", "no image");
  for (const char* path : {"none.png", "../a.png", "/etc/passwd", "bad.png"})
    EXPECT_EQ(error_of(line(path)).find(options_.file + ":1: "), 0u) << path << error_of(line(path));
  write("short.wav", wav(50));
  EXPECT_NE(error_of("{\"text\":\"<|audio|>\",\"audios\":[\"short.wav\"]}\n").find("too short"), std::string::npos);
  options_.allowed[MediaKind::kImage] = false;
  EXPECT_NE(error_of(line("a.png")).find("no vision tower"), std::string::npos);
}

TEST_F(DatasetTest, CollateAgreesWithTheProcessorPath) {
  const Dataset data =
      open(chat_line("one", "two") + chat_line("three four five", "six") + R"({"text":"seven"})" + "\n");
  const std::vector<Sample> samples = {data.load(0), data.load(1), data.load(2)};
  expect_same(collate(samples, 0), make_batch(raw_of(samples, 0), options_.ids, 3));
  const std::vector<Sample> one = {samples[0]};
  expect_same(collate(one, 0), make_batch(raw_of(one, 0), options_.ids, 3));
}

TEST(Collate, PlaceholdersMustMatchTheMedia) {
  Sample sample;
  sample.input_ids = {1, 2, 3};
  sample.labels = {-100, 2, 3};
  sample.token_types = {0, 1, 0};
  EXPECT_THROW(collate(std::vector<Sample>{sample}, 0), Error);
  sample.token_types = {0, 1, 3};
  sample.media = {{.kind = MediaKind::kAudio, .num_soft_tokens = 1}, {.kind = MediaKind::kImage, .num_soft_tokens = 1}};
  EXPECT_THROW(collate(std::vector<Sample>{sample}, 0), Error) << "not in the order of their placeholders";
  std::swap(sample.media[0], sample.media[1]);
  EXPECT_EQ(collate(std::vector<Sample>{sample}, 0).media.size(), 2u);
  EXPECT_THROW(collate({}, 0), Error);
}

TEST(EpochOrder, IsAPermutationOfSeedAndEpoch) {
  const auto order = epoch_order(100, 42, 0);
  EXPECT_EQ(std::set<std::size_t>(order.begin(), order.end()).size(), 100u);
  EXPECT_EQ(order, epoch_order(100, 42, 0));
  EXPECT_NE(order, epoch_order(100, 42, 1));
  EXPECT_NE(order, epoch_order(100, 43, 0));
  EXPECT_TRUE(epoch_order(0, 1, 1).empty());
}

TEST(EpochOrder, EveryPlaceIsEquallyLikely) {
  std::array<int, 5> first{};
  for (std::uint64_t epoch = 0; epoch < 5000; ++epoch) ++first[epoch_order(5, 7, epoch)[0]];
  for (const int count : first) EXPECT_NEAR(count, 1000, 150);  // five standard deviations
}

}  // namespace
}  // namespace bezel::data
