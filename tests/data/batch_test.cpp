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

}  // namespace
}  // namespace bezel::data
