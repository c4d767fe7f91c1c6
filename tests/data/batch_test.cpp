#include "bezel/data/batch.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "bezel/error.h"

namespace bezel::data {
namespace {

TEST(MakeBatch, RefusesPaddingBetweenRealTokens) {
  RawInputs raw;
  raw.input_ids = torch::ones({3, 4}, at::kLong);
  raw.attention_mask = torch::tensor({{0, 0, 1, 1}, {0, 1, 1, 0}, {1, 1, 1, 0}});
  EXPECT_EQ(make_batch(raw, {}, 3).num_tokens, 7);
  raw.attention_mask[2] = torch::tensor({1, 0, 1, 1});
  try {
    make_batch(raw, {}, 3);
    ADD_FAILURE() << "accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("'attention_mask': row 2 has padding between"), std::string::npos);
  }
}

TEST(MakeBatch, DropsLabelsThatPaddingWouldPredict) {
  RawInputs raw;
  raw.input_ids = torch::tensor({{0, 0, 5, 6}, {5, 6, 7, 0}}, at::kLong);
  raw.attention_mask = torch::tensor({{0, 0, 1, 1}, {1, 1, 1, 0}});
  raw.labels = raw.input_ids.clone();  // the second row's padding is no label, the first row's is one by mistake
  raw.labels[1][3] = kIgnoreLabel;
  const Batch batch = make_batch(raw, {}, 3);
  EXPECT_EQ(batch.num_unpredictable, 2);  // 0 and 5 of the first row
  EXPECT_TRUE(batch.label_ids.equal(torch::tensor({6, 6, 7}, at::kLong)));
  EXPECT_TRUE(batch.label_rows.equal(torch::tensor({2, 4, 5}, at::kLong)));
}

}  // namespace
}  // namespace bezel::data
