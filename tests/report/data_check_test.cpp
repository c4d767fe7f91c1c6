#include "bezel/report/data_check.h"

#include <algorithm>
#include <fstream>
#include <numeric>
#include <random>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "bezel/report/sample_view.h"
#include "support/media_files.h"
#include "support/temp_folder.h"

namespace bezel::report {
namespace {

TEST(LengthHistogram, EveryLengthLiesInItsBinAndBinsAreRound) {
  std::mt19937 random(5);
  for (const std::size_t most : {1u, 9u, 40u, 700u, 131072u}) {
    std::vector<std::size_t> lengths(200);
    for (std::size_t& length : lengths) length = 1 + random() % most;
    const auto bins = length_histogram(lengths);
    ASSERT_FALSE(bins.empty());
    EXPECT_LE(bins.size(), 12u);
    std::size_t all = 0;
    for (std::size_t i = 0; i < bins.size(); ++i) {
      const auto inside = std::ranges::count_if(
          lengths, [&](std::size_t length) { return length >= bins[i].from && length <= bins[i].to; });
      EXPECT_EQ(bins[i].count, static_cast<std::size_t>(inside));
      if (i > 0) {
        EXPECT_EQ(bins[i].from, bins[i - 1].to + 1);
      }
      all += bins[i].count;
    }
    EXPECT_EQ(all, lengths.size());
    EXPECT_GT(bins.front().count, 0u);
    EXPECT_GT(bins.back().count, 0u);
  }
  EXPECT_TRUE(length_histogram({}).empty());
}

class DataCheckTest : public ::testing::Test {
 protected:
  DataCheckTest() {
    options_.file = folder() + "/t.jsonl";
    options_.skip_bad_samples = true;
    options_.ids = {{{tokenizer_->token_id("<|image|>").value(), tokenizer_->token_id("<|audio|>").value(),
                      tokenizer_->token_id("<|video|>").value()}}};
  }

  std::string folder() const { return temp_.path().string(); }
  void write(const std::string& name, const std::string& bytes) {
    std::ofstream(folder() + "/" + name, std::ios::binary) << bytes;
  }
  data::Dataset open(const std::string& text) {
    write("t.jsonl", text);
    return data::Dataset(options_, tokenizer_);
  }
  static std::string line(const std::string& content, const std::string& answer = "a cat") {
    return R"({"messages":[{"role":"user","content":)" + content + R"(},{"role":"assistant","content":")" + answer +
           "\"}]}\n";
  }
  static std::string picture(const std::string& name) {
    return R"([{"type":"image","path":")" + name + R"("},{"type":"text","text":"what"}])";
  }
  static std::string png(std::uint32_t width, std::uint32_t height, bool whole = true) {
    std::string rows;
    for (std::uint32_t y = 0; y < (whole ? height : height / 2); ++y) rows.append(1, '\0').append(3 * width, '\x40');
    return test::make_png({.width = width, .height = height, .rows = rows});
  }

  test::TempFolder temp_;
  std::shared_ptr<const data::Tokenizer> tokenizer_ = std::make_shared<const data::Tokenizer>(
      data::Tokenizer::from_file(std::string(BEZEL_TEST_DATA) + "/tiny_tokenizer.json"));
  data::DatasetOptions options_;
};

TEST_F(DataCheckTest, CountsSamplesAndFindsMediaThatCannotBeDecoded) {
  write("good.png", png(96, 48));
  write("damaged.png", png(96, 48, false));  // half of its rows, as only decoding shows
  write("a.wav", test::make_wav(1, 1, 16000, 16, test::pcm16(std::vector<std::int16_t>(8000, 100))));
  const data::Dataset data = open(line(R"("hi")") + line(picture("good.png")) + line(picture("damaged.png")) +
                                  line(R"([{"type":"audio","path":"a.wav"}])") + "{\"messages\": 3}\n");
  EXPECT_EQ(data.report().num_bad, 1u);
  std::vector<std::size_t> seen;
  const DataCheck check = check_data(data, [&](std::size_t done, std::size_t total) {
    seen.push_back(done);
    EXPECT_EQ(total, 4u);
  });
  EXPECT_EQ(seen.back(), 4u);
  ASSERT_EQ(check.bad_media.size(), 1u);
  EXPECT_TRUE(check.bad_media[0].starts_with(options_.file + ":3: ")) << check.bad_media[0];
  EXPECT_EQ(check.media[input::MediaKind::kImage].items, 2u);
  EXPECT_EQ(check.media[input::MediaKind::kAudio].items, 1u);
  std::size_t tokens = 0, labels = 0;
  input::PerKind<std::size_t> soft_tokens;
  for (const std::size_t idx : {0, 1, 3}) {
    const data::Sample sample = data.load(idx);
    tokens += sample.input_ids.size();
    labels += static_cast<std::size_t>(
        std::ranges::count_if(sample.labels, [](std::int64_t label) { return label != data::kIgnoreLabel; }));
    for (const data::Media& media : sample.media)
      soft_tokens[media.kind] += static_cast<std::size_t>(media.num_soft_tokens);
  }
  // The damaged image has a good header: by that it is as long as the good one.
  const data::SampleSize& bad = data.sample_size(2);
  EXPECT_EQ(check.tokens(), tokens + bad.tokens);
  EXPECT_EQ(check.label_tokens, labels + bad.label_tokens);
  const auto image = input::MediaKind::kImage, audio = input::MediaKind::kAudio;
  EXPECT_EQ(check.media[image].soft_tokens, soft_tokens[image] + bad.media[image].soft_tokens);
  EXPECT_LE(check.media[audio].soft_tokens - soft_tokens[audio], 1u);
}

TEST_F(DataCheckTest, ThreadsChangeNothing) {
  std::string text;
  for (int i = 0; i < 1500; ++i)
    text += i % 7 == 3 ? "{\"bad\": " + std::to_string(i) + "}\n" : line("\"" + std::string(1 + i % 40, 'a') + "\"");
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const data::Dataset one = open(text);
  at::set_num_threads(3);
  const data::Dataset several = open(text);
  at::set_num_threads(threads);
  ASSERT_EQ(one.size(), several.size());
  EXPECT_EQ(one.report().bad, several.report().bad);
  EXPECT_EQ(one.report().num_bad, 214u);
  for (std::size_t i = 0; i < one.size(); ++i) {
    EXPECT_EQ(one.line(i), several.line(i));
    EXPECT_EQ(one.num_tokens(i), several.num_tokens(i));
  }
}

TEST_F(DataCheckTest, ViewsShowWhatTheModelSees) {
  write("good.png", png(96, 48));
  options_.max_seq_length = 120;
  options_.media.image.max_soft_tokens = 70;
  std::string answer;
  for (int i = 0; i < 200; ++i) answer += "one two ";
  const data::Dataset data = open(line(picture("good.png"), "yes") + line(R"("hi")", answer));
  const SampleView view = view_sample(data, 0);
  EXPECT_EQ(view.source, options_.file + ":1");
  ASSERT_EQ(view.media.size(), 1u);
  EXPECT_EQ(view.media[0].path, "good.png");
  EXPECT_EQ(view.media[0].size, (input::ImageSize{48, 96}));
  std::size_t tokens = 0;
  std::string learnt, media;
  for (const SampleStretch& stretch : view.stretches) {
    tokens += stretch.num_tokens;
    if (stretch.learnt) learnt += stretch.text;
    if (stretch.media == input::MediaKind::kImage) media += std::to_string(stretch.num_tokens);
  }
  EXPECT_EQ(tokens, view.ids.size());
  EXPECT_EQ(learnt, "yes<turn|>");
  EXPECT_EQ(media, std::to_string(view.media[0].soft_tokens()));
  EXPECT_EQ(view.words[0], "<bos>");
  EXPECT_EQ(view.whole_tokens, view.ids.size());

  const SampleView cut = view_sample(data, 1);
  EXPECT_EQ(cut.ids.size(), 120u);
  ASSERT_GT(cut.whole_tokens, 120u);
  std::string shown;
  for (const SampleStretch& stretch : cut.stretches) shown += stretch.text;
  EXPECT_EQ(shown + cut.cut_text, data.load_text(1).text);
}

}  // namespace
}  // namespace bezel::report
