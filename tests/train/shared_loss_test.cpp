// Samples whose common beginnings are computed once give the losses and gradients of the samples one by one.
#include <cmath>
#include <span>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "bezel/data/preference_batch.h"
#include "bezel/data/shared_prefix.h"
#include "bezel/train/forward.h"
#include "bezel/train/preference_objective.h"
#include "support/adapted_model.h"
#include "support/tiny_sample.h"

namespace bezel::train {
namespace {

using torch::Tensor;
using Ids = std::vector<std::int64_t>;

// Relative, of all gradients together: products of other sizes round in another order.
constexpr double kSharedRounding = 5e-6;

constexpr std::int64_t kImageToken = test::kTinyImage, kAudioToken = test::kTinyAudio;

/// Labels from `prompt` on; the media of its placeholders depend on `look` alone.
data::Sample tree_sample(const Ids& ids, std::size_t prompt, double look = 1.0) {
  data::Sample sample = test::tiny_sample(ids, [look](std::int64_t i) { return look - 0.3 * static_cast<double>(i); });
  for (std::size_t i = prompt; i < ids.size(); ++i) sample.labels[i] = ids[i];
  return sample;
}

Ids behind(const Ids& prefix, const Ids& rest) {
  Ids ids = prefix;
  ids.insert(ids.end(), rest.begin(), rest.end());
  return ids;
}

/// Prefixes longer and shorter than the window of 6, with media inside and at their end, labels alike in part; a sample
/// that is nothing but a prefix of others, one twice, and one by itself.
std::vector<data::Sample> tree_samples() {
  const Ids system{2, 5, 9, 8, 7, 4, 3, 11, 12},
      picture{2, 14, kImageToken, kImageToken, 7, kAudioToken, kAudioToken, kAudioToken, 9},
      turn = behind(system, {20, 21, 22, 23});
  return {tree_sample(behind(system, {13, 14, 15, 16}), 10),
          tree_sample(behind(picture, {10, 11, 12}), 11),
          tree_sample(behind(turn, {24, 25, 26}), 11),
          tree_sample(behind(system, {17, 18}), 10),
          tree_sample(behind(picture, {30, 31, 32, 33, 34, 35, 36, 37}), 12),
          tree_sample(behind(turn, {27, 28}), 11),
          tree_sample(behind(picture, {10, 40}), 10, 0.7),
          tree_sample({22, 23, 24, kImageToken, kImageToken, 25}, 5),
          tree_sample(turn, 11),
          tree_sample(behind(system, {13, 14, 15, 16}), 10),
          tree_sample({2, 5, 9}, 1)};
}

class SharedLoss : public testing::TestWithParam<bool> {
 protected:
  /// Loss and gradients summed over `batches`.
  std::vector<Tensor> summed(const std::vector<data::Batch>& batches) {
    Tensor loss = at::zeros({});
    for (const data::Batch& batch : batches) loss = loss + loss_sum(model, batch);
    return test::gradients(model, loss);
  }

  static std::vector<data::Batch> apart(std::span<const data::Sample> all) {
    std::vector<data::Batch> batches;
    for (const data::Sample& sample : all) batches.push_back(data::collate({&sample, 1}, 0));
    return batches;
  }

  gemma4::Model model = test::adapted_model(/*dropout=*/0.0, /*bidirectional=*/GetParam());
};

TEST_P(SharedLoss, EqualsThatOfTheSamplesOneByOne) {
  const std::vector<data::Sample> all = tree_samples();
  const auto wanted = summed(apart(all));
  for (const std::size_t least : {1, 3, 8}) {
    SCOPED_TRACE(least);
    const data::Batch shared = data::collate_shared(all, least);
    ASSERT_TRUE(shared.prefix_begin.defined());
    // {2, 5, 9} before the rest of system before the start of turn; what they add has three tokens at least.
    ASSERT_EQ(shared.prefix_begin.size(0), least == 8 ? 1 : 3);
    ASSERT_LT(shared.input_ids.numel(), shared.num_tokens);
    ASSERT_EQ(shared.media.size(), 5u);  // of 7
    for (const bool recompute : {false, true}) {
      model->set_recompute(recompute);
      test::expect_close(summed({shared}), wanted, kSharedRounding);
    }
    model->set_recompute(false);
  }
}

// The controls: without the prefixes, or with positions as they come in the row, it is another sum.
TEST_P(SharedLoss, PrefixesCount) {
  data::Batch shared = data::collate_shared(tree_samples(), 1);
  const double right = loss_sum(model, shared).item<double>();
  const Tensor ends = shared.prefix_end;
  shared.prefix_end = shared.prefix_begin.clone();
  EXPECT_GT(std::abs(loss_sum(model, shared).item<double>() - right), 1e-3 * right);
  shared.prefix_begin = shared.prefix_end = Tensor();
  EXPECT_GT(std::abs(loss_sum(model, shared).item<double>() - right), 1e-3 * right);
}

TEST_P(SharedLoss, TowersRunOnceForSharedMedia) {
  const data::Sample one = tree_sample({2, 14, kImageToken, kImageToken, 7, 9, 10}, 6),
                     other = tree_sample({2, 14, kImageToken, kImageToken, 7, 8, 11}, 6);
  const std::vector<data::Sample> both{one, other};
  const data::Batch shared = data::collate_shared(both, 1);
  ASSERT_EQ(shared.media.size(), 1u);
  EXPECT_EQ(model->encode(shared).rows.size(0), 2);
}

TEST_P(SharedLoss, PairsHaveTheLogProbabilitiesOfTheirAnswersApart) {
  const Ids prompt{2, 5, 9, kImageToken, kImageToken, 8, kAudioToken, kAudioToken, kAudioToken, 11, 12};
  std::vector<data::Sample> rows{
      tree_sample(behind(prompt, {13, 14, 15}), 11), tree_sample(behind(prompt, {13, 16}), 11),
      tree_sample(behind(prompt, {20, 21, 22}), 1), tree_sample(behind(prompt, {23, 24}), 11)};
  rows[2].answer_labels = tree_sample(behind(prompt, {20, 21, 22}), 11).labels;  // ORPO learns the chosen one's prompt
  for (std::size_t i = 0; i < rows.size(); ++i)
    rows[i].role = i % 2 == 0 ? input::AnswerRole::kChosen : input::AnswerRole::kRejected;
  const Ids numbers{0, 1, 2, 3};
  const Tensor weights = torch::tensor({0.5f, 1.5f, 2.0f, 0.25f});
  const auto logps_and_gradients = [&](bool shares) {
    const data::Batch batch = data::collate_answers(rows, numbers, 0, shares);
    EXPECT_EQ(batch.input_ids.size(0), shares ? 1 : 4);
    const AnswerLogps logps = answer_logps(model, batch, {});
    std::vector<Tensor> found = test::gradients(model, -(logps.sums * weights).sum() + logps.nll);
    found.insert(found.end(), {logps.sums.detach(), logps.tokens, logps.nll.detach()});
    return found;
  };
  const auto wanted = logps_and_gradients(false), got = logps_and_gradients(true);
  EXPECT_TRUE(torch::equal(got[got.size() - 2], torch::tensor({3.0f, 2.0f, 3.0f, 2.0f})));
  for (const std::size_t from_end : {1, 3})
    EXPECT_TRUE(torch::allclose(got[got.size() - from_end], wanted[wanted.size() - from_end], 1e-5, 1e-5));
  const std::vector<Tensor> of_got(got.begin(), got.end() - 3), of_wanted(wanted.begin(), wanted.end() - 3);
  test::expect_close(of_got, of_wanted, kSharedRounding);
}

INSTANTIATE_TEST_SUITE_P(Pictures, SharedLoss, testing::Bool(),
                         [](const auto& info) { return info.param ? "seen_both_ways" : "causal"; });

}  // namespace
}  // namespace bezel::train
