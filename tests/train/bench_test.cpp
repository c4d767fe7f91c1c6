#include "bezel/train/bench.h"

#include <numeric>
#include <set>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "bezel/error.h"
#include "tests/support/temp_folder.h"

namespace bezel::train {
namespace {

constexpr std::int64_t kTokens = 48, kRows = 4, kSystem = 30;
constexpr std::int64_t kImageType = 1;

/// Rows that begin with the same image of two soft tokens and the same words, padded on the left, and the batch of
/// them.
struct Inputs {
  input::RawInputs raw;
  input::Batch whole;

  Inputs() {
    raw.input_ids = at::zeros({kRows, kTokens}, at::kLong);
    raw.labels = at::full({kRows, kTokens}, input::kIgnoreLabel, at::kLong);
    whole.attention_mask = at::zeros({kRows, kTokens}, at::kBool);
    whole.mm_token_type_ids = at::zeros({kRows, kTokens}, at::kLong);
    for (std::int64_t row = 0; row < kRows; ++row) {
      const std::int64_t first = row, length = kTokens - first;  // row by row more padding
      raw.input_ids[row].narrow(0, first, length).copy_(at::arange(10, 10 + length));
      raw.input_ids[row].narrow(0, first + kSystem, length - kSystem).add_(100 * (row + 1));
      raw.labels[row].narrow(0, kTokens - 5, 5).copy_(raw.input_ids[row].narrow(0, kTokens - 5, 5));
      whole.attention_mask[row].narrow(0, first, length).fill_(true);
      whole.mm_token_type_ids[row].narrow(0, first + 1, 2).fill_(kImageType);
      whole.media.push_back({.kind = input::MediaKind::kImage, .features = at::ones({2, 3}), .num_soft_tokens = 2});
    }
  }
};

struct Sums {
  std::multiset<std::int64_t> labels{};
  std::int64_t tokens = 0, computed = 0;
  std::size_t media = 0;
};

Sums bench_sums(const std::vector<data::Batch>& batches) {
  Sums sums;
  for (const data::Batch& batch : batches) {
    for (std::int64_t i = 0; i < batch.num_labels(); ++i) sums.labels.insert(batch.label_ids[i].item<std::int64_t>());
    sums.tokens += batch.num_tokens;
    sums.computed += batch.input_ids.numel();
    sums.media += batch.media.size();
  }
  return sums;
}

TEST(PackedBatches, RowsThatBeginAlikeAreComputedOnceAndTheirMediaToo) {
  const Inputs inputs;
  const auto samples = row_samples(inputs.raw, inputs.whole);
  const Sums packed = bench_sums(packed_batches(samples, 256, /*shares=*/false));
  const Sums shared = bench_sums(packed_batches(samples, 256, /*shares=*/true));
  EXPECT_EQ(packed.tokens, kRows * kTokens - (0 + 1 + 2 + 3));
  EXPECT_EQ(packed.computed, packed.tokens);
  EXPECT_EQ(packed.media, 4u);
  EXPECT_EQ(packed.labels.size(), 5u * kRows);
  EXPECT_EQ(shared.labels, packed.labels);
  EXPECT_EQ(shared.tokens, packed.tokens);
  EXPECT_EQ(shared.computed, packed.tokens - (kRows - 1) * kSystem);
  EXPECT_EQ(shared.media, 1u);
}

TEST(PackedBatches, KeepToTheRow) {
  const Inputs inputs;
  const auto samples = row_samples(inputs.raw, inputs.whole);
  for (const bool shares : {false, true}) {
    const std::int64_t most = shares ? 70 : 100;  // two rows
    const auto batches = packed_batches(samples, most, shares);
    EXPECT_EQ(batches.size(), 2u);
    for (const data::Batch& batch : batches) EXPECT_LE(batch.input_ids.numel(), most);
  }
}

TEST(RowSamples, RefuseInputsWithoutLabelsAndMediaThatDoNotFit) {
  Inputs inputs;
  inputs.whole.media.back().num_soft_tokens = 3;
  EXPECT_TRUE(test::says(test::error_of([&] { row_samples(inputs.raw, inputs.whole); }), "row 3 of the inputs"));
  inputs.raw.labels = torch::Tensor();
  EXPECT_TRUE(test::says(test::error_of([&] { row_samples(inputs.raw, inputs.whole); }), "in.labels"));
}

}  // namespace
}  // namespace bezel::train
