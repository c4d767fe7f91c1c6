// Samples side by side in one row give the losses and gradients of the samples one by one.
#include <cmath>
#include <span>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "bezel/data/dataset.h"
#include "bezel/input/sample_key.h"
#include "bezel/nn/random_keys.h"
#include "bezel/train/forward.h"
#include "support/adapted_model.h"
#include "support/tiny_sample.h"

namespace bezel::train {
namespace {

using torch::Tensor;
using Ids = std::vector<std::int64_t>;

// Relative, of all gradients together: products of other sizes round in another order, and this model of random weights
// makes that forty times larger. The same samples in rows of their own, two at a time, differ as much.
constexpr double kRounding = 1e-5;

constexpr std::int64_t kImage = test::kTinyImage, kAudio = test::kTinyAudio;

/// A sample whose every label position in `labelled` carries loss; media of the tiny model for its placeholders.
data::Sample sample_of(const Ids& ids, const Ids& labelled) {
  data::Sample sample =
      test::tiny_sample(ids, [&ids](std::int64_t i) { return 1.0 - 0.3 * static_cast<double>(i + ids.size() % 3); });
  for (const std::int64_t place : labelled)
    sample.labels[static_cast<std::size_t>(place)] = ids[static_cast<std::size_t>(place)];
  return sample;
}

/// Longer and shorter than the window of 6, with images that meet where samples do, labels scattered.
std::vector<data::Sample> samples_without_keys() {
  return {sample_of({2, 5, 9, 8, 7, 4, 3, 11, 12, 13, 14, 15, 16}, {2, 5, 6, 11, 12}),
          sample_of({2, 5, kImage, kImage, 7, kAudio, kAudio, kAudio, 9, 10, 11, 12}, {9, 10, 11}),
          sample_of({2, 3}, {1}),
          sample_of({2, 17, 18, 19, kImage, kImage}, {1, 3}),
          sample_of({kImage, kImage, 21, kImage, kImage, 22, 23}, {2, 5, 6}),
          sample_of({2, kAudio, kAudio, kAudio, 24, 25, 26, 27, 28}, {4, 8})};
}

std::vector<data::Sample> samples() {
  std::vector<data::Sample> all = samples_without_keys();
  for (std::size_t i = 0; i < all.size(); ++i) all[i].key = input::sample_key(i, 0);
  return all;
}

class PackedLoss : public testing::TestWithParam<bool> {
 protected:
  /// Loss and gradients summed over `batches`.
  std::vector<Tensor> summed(const std::vector<data::Batch>& batches) {
    Tensor loss = at::zeros({});
    for (const data::Batch& batch : batches) loss = loss + loss_sum(model, batch);
    return test::gradients(model, loss);
  }

  /// With dropout, whose masks must follow the samples.
  gemma4::Model model = test::adapted_model(/*dropout=*/0.3, /*bidirectional=*/GetParam());
  nn::ScopedRandomKeys random{nn::RandomKeys::of_step(3, 4)};
};

TEST_P(PackedLoss, EqualsThatOfTheSamplesOneByOne) {
  const std::vector<data::Sample> all = samples();
  std::vector<data::Batch> apart;
  for (const data::Sample& sample : all) apart.push_back(data::collate({&sample, 1}, 0));
  const data::Batch packed = data::collate_packed(all);
  ASSERT_TRUE(packed.segment_start.defined());
  ASSERT_FALSE(packed.has_padding);
  const auto wanted = summed(apart);
  for (const bool recompute : {false, true}) {
    model->set_recompute(recompute);
    test::expect_close(summed({packed}), wanted, kRounding);
  }
  model->set_recompute(false);
  test::expect_close(summed({data::collate(all, 0)}), wanted, kRounding);
}

// The control: without the boundaries it is another sum.
TEST_P(PackedLoss, BoundariesCount) {
  const std::vector<data::Sample> all = samples();
  data::Batch packed = data::collate_packed(all);
  const double apart = loss_sum(model, packed).item<double>();
  packed.segment_start = Tensor();
  EXPECT_GT(std::abs(loss_sum(model, packed).item<double>() - apart), 1e-3 * apart);
}

TEST_P(PackedLoss, AnySplitOfTheSamplesGivesTheSame) {
  const std::vector<data::Sample> all = samples();
  const auto wanted = summed({data::collate_packed(all)});
  const std::span<const data::Sample> view(all);
  test::expect_close(summed({data::collate_packed(view.first(2)), data::collate_packed(view.subspan(2))}), wanted,
                     kRounding);
}

// The control: dropout is on, and other samples, updates and seeds have other masks.
TEST_P(PackedLoss, KeysCount) {
  std::vector<data::Sample> all = samples();
  const auto loss = [&] { return loss_sum(model, data::collate_packed(all)).item<double>(); };
  const double wanted = loss();
  EXPECT_EQ(loss(), wanted);
  for (const auto& [seed, update] : {std::pair{3u, 5}, std::pair{4u, 4}}) {
    const nn::ScopedRandomKeys other(nn::RandomKeys::of_step(seed, update));
    EXPECT_GT(std::abs(loss() - wanted), 1e-5 * wanted);
  }
  all[1].key += 1000;
  EXPECT_GT(std::abs(loss() - wanted), 1e-6 * wanted);
}

INSTANTIATE_TEST_SUITE_P(Pictures, PackedLoss, testing::Bool(),
                         [](const auto& info) { return info.param ? "seen_both_ways" : "causal"; });

}  // namespace
}  // namespace bezel::train
