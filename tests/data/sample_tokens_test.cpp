#include "bezel/data/sample_tokens.h"

#include <algorithm>
#include <string>

#include <gtest/gtest.h>

namespace bezel::data {
namespace {

const Tokenizer& tiny() {
  static const Tokenizer tokenizer = Tokenizer::from_file(BEZEL_TEST_DATA "/tiny_tokenizer.json");
  return tokenizer;
}

std::int64_t id(const char* token) { return tiny().token_id(token).value(); }

SampleText chat() {
  return read_sample(io::parse_json(R"({"messages":[
      {"role":"user","content":[{"type":"image","path":"1"},{"type":"text","text":"naïve?"},{"type":"audio","path":"2"}]},
      {"role":"assistant","content":"Yes, it is."},
      {"role":"user","content":[{"type":"image","path":"3"}]},{"role":"assistant","content":"No."}]})",
                                    "t"),
                     "t");
}

const std::vector<MediaTokens> kSoftTokens = {{3}, {4}, {2}};

// What the labels say, each run of them followed by "|".
std::string label_text(const SampleTokens& tokens) {
  std::string out;
  for (std::size_t i = 0; i < tokens.labels.size(); ++i) {
    if (tokens.labels[i] == -100) continue;
    EXPECT_EQ(tokens.labels[i], tokens.input_ids[i]);
    out += tiny().decode(std::vector<std::int64_t>{tokens.labels[i]});
    if (i + 1 == tokens.labels.size() || tokens.labels[i + 1] == -100) out += "|";
  }
  return out;
}

TEST(ExpandPlaceholders, FramesAndRepeatsThem) {
  const ExpandedText text = expand_placeholders(chat(), kSoftTokens);
  EXPECT_NE(text.text.find("user\n<|image><|image|><|image|><|image|><image|>naïve?<|audio><|audio|><|audio|><|audio|>"
                           "<|audio|><audio|><turn|>"),
            std::string::npos);
  ASSERT_EQ(text.loss_spans.size(), 2u);
  EXPECT_EQ(text.text.substr(text.loss_spans[0].first, text.loss_spans[0].second - text.loss_spans[0].first),
            "Yes, it is.<turn|>");
  EXPECT_EQ(text.text.substr(text.loss_spans[1].first, text.loss_spans[1].second - text.loss_spans[1].first),
            "No.<turn|>");
  ASSERT_EQ(text.media_spans.size(), 3u);
  EXPECT_EQ(text.text.substr(text.media_spans[2].first, text.media_spans[2].second - text.media_spans[2].first),
            "<|image><|image|><|image|><image|>");
}

TEST(ExpandPlaceholders, FramesOfAVideoHaveTheirTimes) {
  SampleText sample{.text = "<bos>a<|video|>b", .loss_spans = {{15, 16}}};
  const std::vector<MediaTokens> media = {{2, {"00:00", "01:05"}}};
  const ExpandedText text = expand_placeholders(sample, media);
  EXPECT_EQ(text.text, "<bos>a00:00 <|image><|video|><|video|><image|> 01:05 <|image><|video|><|video|><image|>b");
  ASSERT_EQ(text.media_spans.size(), 1u);
  EXPECT_EQ(text.media_spans[0], std::pair(std::size_t{6}, text.text.size() - 1));
  EXPECT_EQ(text.loss_spans[0], std::pair(text.text.size() - 1, text.text.size()));
  const auto tokens = tokenize_sample(tiny(), text, 0);
  ASSERT_TRUE(tokens);
  EXPECT_EQ(std::count(tokens->token_types.begin(), tokens->token_types.end(), 2), 4);
  EXPECT_EQ(label_text(*tokens), "b|") << "no time is learnt";
}

TEST(TokenizeSample, LabelsAreTheAssistantsTokens) {
  const auto tokens = tokenize_sample(tiny(), expand_placeholders(chat(), kSoftTokens), 0);
  ASSERT_TRUE(tokens);
  EXPECT_EQ(label_text(*tokens), "Yes, it is.<turn|>|No.<turn|>|");
  EXPECT_EQ(std::count(tokens->token_types.begin(), tokens->token_types.end(), 1), 5);
  EXPECT_EQ(std::count(tokens->token_types.begin(), tokens->token_types.end(), 3), 4);
  for (std::size_t i = 0; i < tokens->input_ids.size(); ++i) {
    EXPECT_EQ(tokens->token_types[i] == 1, tokens->input_ids[i] == id("<|image|>"));
    EXPECT_EQ(tokens->token_types[i] == 3, tokens->input_ids[i] == id("<|audio|>"));
  }
}

TEST(TokenizeSample, LabelsOfWiderSpansComeBesideThoseOfTheAnswer) {
  const std::vector<ExpandedText::Span> all{{0, chat().text.size()}};
  const auto tokens = tokenize_sample(tiny(), expand_placeholders(chat(), kSoftTokens, all), 0);
  const auto plain = tokenize_sample(tiny(), expand_placeholders(chat(), kSoftTokens), 0);
  ASSERT_TRUE(tokens && plain);
  EXPECT_EQ(tokens->labels, plain->labels);
  EXPECT_TRUE(plain->wider_labels.empty());
  const auto media = std::ranges::count_if(tokens->wider_labels, [](std::int64_t label) { return label == -100; });
  EXPECT_GT(media, 9);  // 9 soft tokens, and what opens and closes them
  EXPECT_EQ(tokens->num_wider_labels, tokens->input_ids.size() - static_cast<std::size_t>(media) - 1);
}

TEST(TokenizeSample, MediaNeverCarryLoss) {
  SampleText sample = chat();
  sample.loss_spans = {{5, sample.text.size()}};
  const auto tokens = tokenize_sample(tiny(), expand_placeholders(sample, kSoftTokens), 0);
  ASSERT_TRUE(tokens);
  for (std::size_t i = 0; i < tokens->labels.size(); ++i) {
    if (tokens->token_types[i] == 0) continue;
    EXPECT_EQ(tokens->labels[i], -100);
  }
  EXPECT_EQ(label_text(*tokens).find("image"), std::string::npos);
}

TEST(TokenizeSample, IsCutOnlyWhereMediaStayWhole) {
  const ExpandedText text = expand_placeholders(chat(), kSoftTokens);
  const auto whole = tokenize_sample(tiny(), text, 0);
  ASSERT_TRUE(whole);
  const auto& ids = whole->input_ids;
  const auto last_media = ids.rend() - std::find(ids.rbegin(), ids.rend(), id("<image|>"));
  const auto fits = static_cast<std::size_t>(last_media);
  for (std::size_t most = 1; most < ids.size(); ++most) {
    const auto cut = tokenize_sample(tiny(), text, most);
    EXPECT_EQ(cut.has_value(), most >= fits) << most;
    if (!cut) continue;
    EXPECT_TRUE(cut->was_cut);
    EXPECT_EQ(cut->input_ids, std::vector<std::int64_t>(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(most)));
  }
}

TEST(TokenizeSample, IsDroppedWhenTheCutTakesEveryLabel) {
  SampleText sample;
  sample.text = "<bos>aaaa<turn|>bb";
  sample.loss_spans = {{sample.text.size() - 2, sample.text.size()}};
  const ExpandedText text = expand_placeholders(sample, {});
  const std::size_t length = tokenize_sample(tiny(), text, 0)->input_ids.size();
  const auto prompt = tiny().encode("<bos>aaaa<turn|>").ids.size();
  EXPECT_FALSE(tokenize_sample(tiny(), text, prompt));
  EXPECT_TRUE(tokenize_sample(tiny(), text, length));
}

}  // namespace
}  // namespace bezel::data
