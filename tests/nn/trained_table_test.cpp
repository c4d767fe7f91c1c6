#include "bezel/nn/trained_table.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "bezel/nn/embedding.h"
#include "bezel/nn/random_keys.h"
#include "bezel/train/loss.h"

namespace bezel::nn {
namespace {

using torch::Tensor;

constexpr std::int64_t kRows = 11, kWidth = 6;

enum class TableForm { kLowRank, kRows, kWhole };

class Tables : public testing::TestWithParam<TableForm> {
 protected:
  Tables() {
    torch::manual_seed(9);
    w = torch::randn({kRows, kWidth});
    base = quant::dense_weight(w, "w");
  }

  std::shared_ptr<TrainedTable> make(bool embedding) const {
    auto table = std::make_shared<TrainedTable>();
    table->is_embedding = embedding;
    if (GetParam() == TableForm::kLowRank) {
      table->a = torch::randn({2, embedding ? kRows : kWidth}).requires_grad_();
      table->b = torch::randn({embedding ? kWidth : kRows, 2}).requires_grad_();
      table->scale = 0.6;
    } else if (GetParam() == TableForm::kRows) {
      table->ids = {7, 2, 10};
      table->rows = torch::randn({3, kWidth}).requires_grad_();
    } else {
      table->whole = torch::randn({kRows, kWidth}).requires_grad_();
    }
    return table;
  }

  // The table as one matrix of the graph.
  Tensor naive(const TrainedTable& table) const {
    if (table.whole.defined()) return table.whole;
    if (table.rows.defined()) return w.index_copy(0, at::tensor(table.ids, at::kLong), table.rows);
    return w + table.scale * (table.is_embedding ? table.b.mm(table.a).t() : table.b.mm(table.a));
  }

  Tensor w;
  std::shared_ptr<const quant::Weight> base;
};

TEST_P(Tables, LookedUpRowsAndTheirGradientsAreThoseOfTheMatrix) {
  const auto table = make(true);
  Embedding embedding(kRows, kWidth, 3.0);
  embedding->weight = base;
  embedding->trained = table;
  const Tensor ids = at::tensor({4, 2, 7, 2, 0, 10}, at::kLong).view({2, 3});
  const Tensor got = embedding(ids, torch::kFloat),
               wanted = naive(*table).index_select(0, ids.view({-1})).view({2, 3, kWidth}) * 3.0;
  EXPECT_TRUE(torch::allclose(got, wanted, 1e-5, 1e-6));
  const Tensor dy = torch::randn({2, 3, kWidth});
  const auto found = torch::autograd::grad({got}, table->tensors(), {dy});
  const auto right = torch::autograd::grad({wanted}, table->tensors(), {dy});
  for (std::size_t i = 0; i < found.size(); ++i) EXPECT_TRUE(torch::allclose(found[i], right[i], 1e-4, 1e-5)) << i;
}

TEST_P(Tables, TheHeadMultipliesAsTheMatrixDoes) {
  const auto table = make(false);
  TrainedHead head;
  EXPECT_EQ(head.over(base), base);
  head.set(table);
  const auto& changed = head.over(base);
  const Tensor matrix = naive(*table).detach(), x = torch::randn({4, kWidth}), dy = torch::randn({4, kRows});
  EXPECT_TRUE(torch::allclose(changed->matmul(x), x.mm(matrix.t()), 1e-5, 1e-5));
  EXPECT_TRUE(torch::allclose(changed->matmul_transposed(dy), dy.mm(matrix), 1e-5, 1e-5));
  EXPECT_TRUE(torch::allclose(changed->dequantize(torch::kFloat), matrix, 1e-5, 1e-6));
  const Tensor index = at::tensor({2, 3, 7}, at::kLong);
  EXPECT_TRUE(torch::allclose(changed->rows(index, torch::kFloat), matrix.index_select(0, index), 1e-5, 1e-6));
  Tensor part = w.narrow(0, 5, 4).clone();
  TrainedTable left = *table;
  put_into_rows(left, part, 5);
  EXPECT_TRUE(torch::allclose(part, matrix.narrow(0, 5, 4), 1e-5, 1e-6));
}

TEST_P(Tables, TheLossHasTheGradientsOfTheMatrix) {
  const auto table = make(false);
  TrainedHead head;
  head.set(table);
  const Tensor hidden = torch::randn({5, kWidth}).requires_grad_(), labels = at::tensor({3, 7, 0, 10, 2}, at::kLong);
  for (const double softcap : {0.0, 2.0}) {
    const Tensor got = train::cross_entropy_sum(hidden, *head.over(base), labels, softcap, table.get());
    Tensor logits = hidden.mm(naive(*table).t());
    if (softcap > 0) logits = at::tanh(logits / softcap) * softcap;
    const Tensor wanted = at::nll_loss(at::log_softmax(logits, 1), labels, {}, at::Reduction::Sum);
    EXPECT_NEAR(got.item<double>(), wanted.item<double>(), 1e-4);
    std::vector<Tensor> in = table->tensors();
    in.push_back(hidden);
    const auto found = torch::autograd::grad({got}, in, {torch::full({}, 0.5)});
    const auto right = torch::autograd::grad({wanted}, in, {torch::full({}, 0.5)});
    for (std::size_t i = 0; i < found.size(); ++i) EXPECT_TRUE(torch::allclose(found[i], right[i], 1e-4, 1e-5)) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(All, Tables, testing::Values(TableForm::kLowRank, TableForm::kRows, TableForm::kWhole));

TEST(HeadDropout, IsThatOfTheFormula) {
  torch::manual_seed(10);
  const Tensor w = torch::randn({kRows, kWidth});
  const auto base = quant::dense_weight(w, "w");
  auto table = std::make_shared<TrainedTable>();
  table->a = torch::randn({2, kWidth}).requires_grad_();
  table->b = torch::randn({kRows, 2}).requires_grad_();
  table->scale = 0.6;
  table->dropout = 0.3;
  TrainedHead head;
  head.set(table);
  const Tensor hidden = torch::randn({5, kWidth}).requires_grad_(), labels = at::tensor({3, 7, 0, 10, 2}, at::kLong);
  const ScopedRandomKeys random(RandomKeys::of_step(11, 0));
  const Tensor got = train::cross_entropy_sum(hidden, *head.over(base), labels, 0.0, table.get(), true);
  const Tensor keep = dropout_mask(site_key("lm_head"), 5, kWidth, 0.3, torch::kCPU);
  const Tensor logits = hidden.mm(w.t()) + (hidden * keep / 0.7).mm(table->a.t()).mm(table->b.t()) * 0.6;
  const Tensor wanted = at::nll_loss(at::log_softmax(logits, 1), labels, {}, at::Reduction::Sum);
  EXPECT_NEAR(got.item<double>(), wanted.item<double>(), 1e-4);
  const std::vector<Tensor> in{table->a, table->b, hidden};
  const auto found = torch::autograd::grad({got}, in), right = torch::autograd::grad({wanted}, in);
  for (std::size_t i = 0; i < in.size(); ++i) EXPECT_TRUE(torch::allclose(found[i], right[i], 1e-4, 1e-5)) << i;
}

TEST(TableLookup, ThePaddingRowGetsNoGradient) {
  torch::manual_seed(12);
  TrainedTable table;
  table.is_embedding = true;
  table.padding_id = 0;
  table.whole = torch::randn({kRows, kWidth}).requires_grad_();
  const Tensor ids = at::tensor({0, 3}, at::kLong);
  trained_rows(table, torch::zeros({2, kWidth}), ids).sum().backward();
  EXPECT_EQ(table.whole.grad().select(0, 0).abs().sum().item<float>(), 0.0f);
  EXPECT_EQ(table.whole.grad().select(0, 3).sum().item<float>(), static_cast<float>(kWidth));
}

}  // namespace
}  // namespace bezel::nn
