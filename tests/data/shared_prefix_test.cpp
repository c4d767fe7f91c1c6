#include "bezel/data/shared_prefix.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "bezel/data/prefix_hashes.h"

namespace bezel::data {
namespace {

using Ids = std::vector<std::int64_t>;

constexpr std::int64_t kImageToken = 60;

// Labels from token `prompt` on.
Sample prefix_sample(const Ids& ids, std::size_t prompt) {
  Sample sample{.input_ids = ids, .labels = ids, .token_types = Ids(ids.size(), 0), .media = {}};
  for (std::size_t i = 0; i < std::min(prompt, ids.size()); ++i) sample.labels[i] = kIgnoreLabel;
  for (std::size_t i = 0; i < ids.size(); ++i) sample.token_types[i] = ids[i] == kImageToken ? 1 : 0;
  return sample;
}

Media soft_image(double value, std::int64_t soft_tokens) {
  return {.kind = MediaKind::kImage,
          .features = at::full({soft_tokens, 3}, value),
          .layout = at::zeros({soft_tokens, 2}, at::kLong),
          .soft_index = at::arange(soft_tokens),
          .num_soft_tokens = soft_tokens};
}

Ids list_of(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.flatten().contiguous();
  return {flat.data_ptr<std::int64_t>(), flat.data_ptr<std::int64_t>() + flat.numel()};
}

TEST(CommonPrefix, EndsBeforeTheFirstPositionThatPredictsTwoLabels) {
  const Sample a = prefix_sample({1, 2, 3, 4, 5}, 3), b = prefix_sample({1, 2, 3, 9, 5}, 3);
  EXPECT_EQ(common_prefix(a, b), 2u);                                  // position 2 predicts 4 here and 9 there
  EXPECT_EQ(common_prefix(a, prefix_sample({1, 2, 3, 9, 5}, 5)), 3u);  // nothing there
  EXPECT_EQ(common_prefix(prefix_sample({1, 2, 3, 4, 5}, 5), prefix_sample({1, 2, 3, 9, 5}, 4)), 3u);
  EXPECT_EQ(common_prefix(a, a), 5u);
  EXPECT_EQ(common_prefix(a, prefix_sample({1, 2, 3, 4}, 3)), 4u);  // which predicts nothing behind its end
  EXPECT_EQ(common_prefix(prefix_sample({1, 2, 3, 4, 5}, 1), prefix_sample({1, 2, 3, 9}, 1)), 2u);
  EXPECT_EQ(common_prefix(a, prefix_sample({7, 2, 3, 4, 5}, 3)), 0u);
}

TEST(CommonPrefix, HoldsWholeMediaThatAreEqual) {
  Sample a = prefix_sample({1, kImageToken, kImageToken, 4, kImageToken, kImageToken, kImageToken, 5, 6}, 8), b = a;
  a.media = {soft_image(0.5, 2), soft_image(0.25, 3)};
  b.media = {soft_image(0.5, 2), soft_image(0.25, 3)};
  EXPECT_EQ(common_prefix(a, b), 9u);
  b.media[1] = soft_image(0.75, 3);
  EXPECT_EQ(common_prefix(a, b), 4u);
  EXPECT_EQ(common_prefix(a, b, 3), 4u);
  b.media[0] = soft_image(0.75, 2);
  EXPECT_EQ(common_prefix(a, b), 1u);
  // Soft tokens side by side are one run, which the decoder may see whole: half of it is no prefix.
  Sample c = prefix_sample({1, kImageToken, kImageToken, kImageToken, 5}, 4),
         d = prefix_sample({1, kImageToken, kImageToken, 7, 5}, 4);
  c.media = {soft_image(0.5, 2), soft_image(0.25, 1)};
  d.media = {soft_image(0.5, 2)};
  EXPECT_EQ(common_prefix(c, d), 1u);
}

TEST(CommonPrefix, EqualMediaBecomeOneTensor) {
  std::vector<Sample> samples(3, prefix_sample({1, kImageToken, 2}, 2));
  samples[0].media = {soft_image(0.5, 1)};
  samples[1].media = {soft_image(0.25, 1)};
  samples[2].media = {soft_image(0.5, 1)};
  join_equal_media(samples);
  EXPECT_TRUE(samples[2].media[0].features.is_same(samples[0].media[0].features));
  EXPECT_FALSE(samples[1].media[0].features.is_same(samples[0].media[0].features));
}

std::vector<Sample> family() {
  return {prefix_sample({1, 2, 3, 4, 5, 6, 7}, 5), prefix_sample({9, 9}, 1), prefix_sample({1, 2, 3, 4, 8, 7}, 4),
          prefix_sample({1, 2, 3, 4, 5, 6, 9, 9}, 6)};
}

TEST(SharePrefixes, MakesATreeWhosePathsAreTheSamples) {
  const std::vector<Sample> samples = family();
  const SegmentTree tree = share_prefixes(samples, 1);
  for (std::size_t i = 0; i < samples.size(); ++i) {
    Ids ids;
    std::vector<std::size_t> before;
    for (const std::size_t number : tree.paths[i]) {
      const Segment& segment = tree.segments[number];
      EXPECT_EQ(segment.begin, ids.size());
      EXPECT_EQ(segment.prefixes, before);
      const Ids& from = samples[segment.sample].input_ids;
      ids.insert(ids.end(), from.begin() + static_cast<std::ptrdiff_t>(segment.begin),
                 from.begin() + static_cast<std::ptrdiff_t>(segment.end));
      before.push_back(number);
    }
    EXPECT_EQ(ids, samples[i].input_ids) << i;
  }
  // Three begin by 1 2 3 4, of which two go on by 5, behind which 6 predicts 7 here and 9 there: 6 7, 6 9 9, 8 7 and
  // 9 9.
  EXPECT_EQ(tree.num_tokens(), 4u + 1u + 2u + 3u + 2u + 2u);
}

TEST(SharePrefixes, LeavesWhatIsTooShortApart) {
  const std::vector<Sample> samples = family();
  const SegmentTree tree = share_prefixes(samples);
  EXPECT_EQ(tree.segments.size(), samples.size());
  EXPECT_EQ(tree.num_tokens(), 7u + 2u + 6u + 8u);
}

TEST(CollateShared, CountsLabelsOfAPrefixForEachSample) {
  const std::vector<Sample> samples{prefix_sample({1, 2, 3, 4}, 1), prefix_sample({1, 2, 3, 4}, 1),
                                    prefix_sample({1, 2, 5}, 1)};
  const Batch batch = collate_shared(samples, 1);
  // [1] and [2] predict alike in the first two; position 1 predicts 3 or 5.
  EXPECT_EQ(list_of(batch.input_ids), (Ids{1, 2, 3, 4, 2, 5}));
  EXPECT_EQ(list_of(batch.segment_start), (Ids{0, 1, 1, 1, 4, 4}));
  EXPECT_EQ(list_of(batch.prefix_begin), (Ids{0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(list_of(batch.prefix_end), (Ids{0, 1, 1, 1, 1, 1}));
  EXPECT_EQ(list_of(batch.label_ids), (Ids{2, 3, 4, 2, 3, 4, 2, 5}));
  EXPECT_EQ(list_of(batch.label_flat_index), (Ids{0, 1, 2, 0, 1, 2, 0, 4}));
  EXPECT_EQ(list_of(batch.query_positions), (Ids{0, 1, 2, 4}));
  EXPECT_EQ(list_of(batch.label_query_index), (Ids{0, 1, 2, 0, 1, 2, 0, 3}));
  EXPECT_EQ(batch.num_tokens, 11);
  EXPECT_FALSE(batch.has_padding);
}

// ORPO: a chosen answer is learned with its prompt, the rejected one without.
TEST(CollateShared, APromptThatOneSampleLearnsIsThereOnce) {
  const std::vector<Sample> pair{prefix_sample({1, 2, 3, 4, 5}, 1), prefix_sample({1, 2, 3, 9, 8}, 3)};
  const Batch batch = collate_shared(pair, /*least_shared=*/2);
  EXPECT_EQ(list_of(batch.input_ids), (Ids{1, 2, 3, 4, 5, 3, 9, 8}));
  EXPECT_EQ(list_of(batch.label_ids), (Ids{2, 3, 4, 5, 9, 8}));
  EXPECT_EQ(list_of(batch.label_flat_index), (Ids{0, 1, 2, 3, 5, 6}));
}

TEST(CollateShared, HasMediaOfAPrefixOnce) {
  std::vector<Sample> samples{prefix_sample({1, kImageToken, kImageToken, 3, 4}, 4),
                              prefix_sample({1, kImageToken, kImageToken, 3, kImageToken, 5}, 5)};
  samples[0].media = {soft_image(0.5, 2)};
  samples[1].media = {soft_image(0.5, 2), soft_image(0.25, 1)};
  const Batch batch = collate_shared(samples, 1);
  ASSERT_EQ(batch.media.size(), 2u);
  EXPECT_EQ(batch.media[1].num_soft_tokens, 1);
  EXPECT_EQ(list_of(batch.soft_rows), (Ids{1, 2, 5}));
  EXPECT_EQ(list_of(batch.input_ids), (Ids{1, kImageToken, kImageToken, 3, 4, kImageToken, 5}));
}

SampleTokens prefix_tokens(std::size_t count, std::size_t other_from, std::size_t prompt) {
  SampleTokens tokens;
  for (std::size_t i = 0; i < count; ++i) {
    tokens.input_ids.push_back(static_cast<std::int64_t>(i < other_from ? i : 1000 + i));
    tokens.labels.push_back(i < prompt ? kIgnoreLabel : tokens.input_ids.back());
    tokens.token_types.push_back(i == 10 ? 1 : 0);
  }
  return tokens;
}

TEST(PrefixHashes, AreAtMostAnEighthBelowWhatIsCommon) {
  const auto media_of = [](const std::string& fingerprint) {
    MediaInfo info;
    info.tokens.soft_tokens = 1;
    info.fingerprint = fingerprint;
    return std::vector<MediaInfo>{info};
  };
  const std::vector<MediaInfo> media = media_of("a");
  const auto common = [&](std::size_t other_from, std::span<const MediaInfo> others, std::size_t prompt = 2000) {
    return PrefixHashes(prefix_tokens(1500, 1500, 2000), media)
        .common(PrefixHashes(prefix_tokens(1200, other_from, prompt), others));
  };
  for (const std::size_t alike : {32, 40, 100, 500, 1000, 1200}) {
    EXPECT_LE(common(alike, media), alike);
    EXPECT_GE(common(alike, media), alike - std::max<std::size_t>(16, alike / 8));
  }
  EXPECT_EQ(common(20, media), 0u);
  EXPECT_LT(common(1200, media, 600), 600u);
  EXPECT_EQ(common(1200, media_of("b")), 0u);
  EXPECT_EQ(common(1200, media_of("")), 0u);
}

}  // namespace
}  // namespace bezel::data
