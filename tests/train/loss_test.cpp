#include "bezel/train/loss.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/nn/functional/loss.h>
#include <torch/types.h>

namespace bezel::train {
namespace {

using torch::Tensor;

TEST(CrossEntropySum, EqualsTheWholeLogitsWithGradients) {
  torch::manual_seed(1);
  const Tensor head = torch::randn({50, 8});
  const auto weight = quant::dense_weight(head, "head");
  const Tensor labels = torch::randint(0, 50, {13}, at::kLong);
  for (const double cap : {0.0, 2.0}) {
    const Tensor h1 = torch::randn({13, 8}).requires_grad_(), h2 = h1.detach().clone().requires_grad_();
    const Tensor sum = cross_entropy_sum(h1, *weight, labels, cap);
    Tensor logits = h2.mm(head.t());
    if (cap > 0) logits = torch::tanh(logits / cap) * cap;
    const Tensor naive = torch::nn::functional::cross_entropy(
        logits, labels, torch::nn::functional::CrossEntropyFuncOptions().reduction(torch::kSum));
    EXPECT_NEAR(sum.item<double>(), naive.item<double>(), 1e-4);
    (sum / 13).backward();
    (naive / 13).backward();
    EXPECT_TRUE(torch::allclose(h1.grad(), h2.grad(), 1e-4, 1e-6));
  }
}

// LabelSmoother as transformers writes it, before the division by the number of labels.
Tensor naive_smoothed(const Tensor& logits, const Tensor& labels, double smoothing) {
  const Tensor nll = -at::log_softmax(logits, 1);
  const Tensor hard = nll.gather(1, labels.unsqueeze(1)).sum(), even = nll.sum() / logits.size(1);
  return hard * (1 - smoothing) + even * smoothing;
}

TEST(CrossEntropySum, SmoothedLabelsAreTransformersWithGradients) {
  torch::manual_seed(3);
  const Tensor head = torch::randn({50, 8});
  const auto weight = quant::dense_weight(head, "head");
  const Tensor labels = torch::randint(0, 50, {13}, at::kLong);
  for (const double cap : {0.0, 2.0}) {
    const Tensor h1 = torch::randn({13, 8}).requires_grad_(), h2 = h1.detach().clone().requires_grad_();
    const Tensor sum = cross_entropy_sum(h1, *weight, labels, cap, nullptr, false, 0.2);
    Tensor logits = h2.mm(head.t());
    if (cap > 0) logits = torch::tanh(logits / cap) * cap;
    const Tensor naive = naive_smoothed(logits, labels, 0.2);
    EXPECT_NEAR(sum.item<double>(), naive.item<double>(), 1e-4);
    (sum / 13).backward();
    (naive / 13).backward();
    EXPECT_TRUE(torch::allclose(h1.grad(), h2.grad(), 1e-4, 1e-6));
  }
}

TEST(LabelSums, AreTheLossAndTheLabelsThatAreMostLikely) {
  torch::manual_seed(4);
  const Tensor head = torch::randn({2 << 20, 2}) * 0.1;
  const auto weight = quant::dense_weight(head, "head");
  const Tensor hidden = torch::randn({19, 2});
  Tensor labels = hidden.mm(head.t()).argmax(1);
  labels.narrow(0, 3, 5).add_(1).remainder_(2 << 20);
  const LabelSums sums = label_sums(hidden, *weight, labels, 30.0);
  EXPECT_EQ(sums.correct, 14);
  EXPECT_EQ(sums.loss, cross_entropy_sum(hidden, *weight, labels, 30.0).item<double>());
  EXPECT_NE(label_sums(hidden, *weight, labels, 30.0, 0.1).loss, sums.loss);
}

TEST(CrossEntropySum, ChunksAddUp) {
  torch::manual_seed(2);
  // More rows than one chunk of a wide vocabulary holds.
  const Tensor head = torch::randn({2 << 20, 2}) * 0.1;
  const auto weight = quant::dense_weight(head, "head");
  const Tensor hidden = torch::randn({19, 2}), labels = torch::randint(0, 2 << 20, {19}, at::kLong);
  double apart = 0;
  for (std::int64_t i = 0; i < 19; ++i)
    apart += cross_entropy_sum(hidden.narrow(0, i, 1), *weight, labels.narrow(0, i, 1), 30.0).item<double>();
  EXPECT_NEAR(cross_entropy_sum(hidden, *weight, labels, 30.0).item<double>(), apart, 1e-3);
}

TEST(CrossEntropySum, NoRowsGiveZero) {
  const auto weight = quant::dense_weight(torch::randn({5, 2}), "head");
  EXPECT_EQ(cross_entropy_sum(torch::zeros({0, 2}), *weight, torch::zeros({0}, at::kLong), 0).item<float>(), 0.0f);
}

}  // namespace
}  // namespace bezel::train
