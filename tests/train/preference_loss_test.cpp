#include "bezel/train/preference_loss.h"

#include <cmath>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "bezel/data/preference_batch.h"
#include "bezel/error.h"
#include "bezel/train/label_logps.h"
#include "bezel/train/loss.h"
#include "bezel/train/reference_logps.h"
#include "tests/support/temp_folder.h"

namespace bezel::train {
namespace {

using torch::Tensor;

TEST(LabelLogps, EachRowHasItsOwnGradient) {
  torch::manual_seed(1);
  const Tensor head = torch::randn({50, 8});
  const auto weight = quant::dense_weight(head, "head");
  const Tensor labels = torch::randint(0, 50, {13}, at::kLong), scale = torch::randn({13});
  for (const double cap : {0.0, 2.0}) {
    const Tensor h1 = torch::randn({13, 8}).requires_grad_(), h2 = h1.detach().clone().requires_grad_();
    const Tensor logps = label_logps(h1, *weight, labels, cap);
    Tensor logits = h2.mm(head.t());
    if (cap > 0) logits = torch::tanh(logits / cap) * cap;
    const Tensor naive = at::log_softmax(logits, 1).gather(1, labels.unsqueeze(1)).squeeze(1);
    EXPECT_TRUE(torch::allclose(logps, naive, 1e-5, 1e-5));
    (logps * scale).sum().backward();
    (naive * scale).sum().backward();
    EXPECT_TRUE(torch::allclose(h1.grad(), h2.grad(), 1e-4, 1e-6));
  }
}

TEST(LabelLogps, SumToTheCrossEntropyInBfloat16) {
  torch::manual_seed(2);
  const auto weight = quant::dense_weight(torch::randn({300, 16}).to(torch::kBFloat16), "head");
  const Tensor hidden = torch::randn({21, 16}).to(torch::kBFloat16), labels = torch::randint(0, 300, {21}, at::kLong);
  const double sum = cross_entropy_sum(hidden, *weight, labels, 30.0).item<double>();
  EXPECT_NEAR(-label_logps(hidden, *weight, labels, 30.0).sum().item<double>(), sum, 1e-4 * sum);
}

PreferenceConfig config_of(ObjectiveKind objective, double beta) {
  PreferenceConfig config;
  config.objective = objective;
  config.beta = beta;
  return config;
}

PairScores scores_of(double chosen, double rejected) {
  const auto one = [](double value) { return torch::full({1}, value); };
  return {.chosen = one(chosen),
          .rejected = one(rejected),
          .reference_chosen = one(-3),
          .reference_rejected = one(-4),
          .chosen_tokens = one(2),
          .rejected_tokens = one(4),
          .nll = torch::scalar_tensor(1.5)};
}

double loss_of(const PreferenceConfig& preference, double chosen = -2, double rejected = -6) {
  return pair_loss(scores_of(chosen, rejected), preference).sum.item<double>();
}

double log_sigmoid(double x) { return -std::log1p(std::exp(-x)); }

// Log ratios are 1 and -2; per token 0.5 and -0.5.
TEST(PairLoss, IsThatOfThePapers) {
  PreferenceConfig dpo = config_of(ObjectiveKind::kDpo, 0.5);
  EXPECT_NEAR(loss_of(dpo), -log_sigmoid(1.5), 1e-6);
  dpo.label_smoothing = 0.25;
  EXPECT_NEAR(loss_of(dpo), -0.75 * log_sigmoid(1.5) - 0.25 * log_sigmoid(-1.5), 1e-6);
  dpo.label_smoothing = 0;
  dpo.dpo_loss = {"hinge"};
  EXPECT_NEAR(loss_of(dpo), 0.0, 1e-6);
  dpo.beta = 0.1;
  EXPECT_NEAR(loss_of(dpo), 0.7, 1e-6);
  dpo.dpo_loss = {"ipo"};
  EXPECT_NEAR(loss_of(dpo), 16.0, 1e-5);  // (1 - 1 / 0.2)^2
  dpo.dpo_loss = {"hinge", "sft"};
  dpo.loss_weights = {2, 3};
  EXPECT_NEAR(loss_of(dpo), 2 * 0.7 + 3 * 1.5, 1e-6);
  PreferenceConfig simpo = config_of(ObjectiveKind::kSimpo, 2);
  simpo.simpo_gamma = 1;
  simpo.cpo_alpha = 0.5;
  EXPECT_NEAR(loss_of(simpo), -log_sigmoid(2 * (-1 + 1.5) - 1) + 0.5 * 1.5, 1e-6);
  const PreferenceConfig orpo = config_of(ObjectiveKind::kOrpo, 0.2);
  const auto log_odds = [](double p) { return p - std::log(-std::expm1(p)); };
  EXPECT_NEAR(loss_of(orpo), 1.5 - 0.2 * log_sigmoid(log_odds(-1) - log_odds(-1.5)), 1e-6);
}

TEST(PairLoss, RewardsAndAccuracyAreMeansOverPairs) {
  PairScores two = scores_of(-2, -6);
  for (Tensor* tensor : {&two.chosen, &two.rejected, &two.reference_chosen, &two.reference_rejected, &two.chosen_tokens,
                         &two.rejected_tokens})
    *tensor = at::cat({*tensor, *tensor});
  two.rejected[1] = 0;  // the rejected answer gained more
  const auto means = metric_means(pair_loss(two, config_of(ObjectiveKind::kDpo, 0.5)).metrics);
  EXPECT_NEAR(means.at("rewards/chosen"), 0.5, 1e-6);
  EXPECT_NEAR(means.at("rewards/rejected"), 0.5, 1e-6);  // of -1 and 2
  EXPECT_NEAR(means.at("rewards/accuracies"), 0.5, 1e-6);
  EXPECT_NEAR(means.at("logps/rejected"), -3, 1e-6);
}

TEST(PairLoss, OddsOfCertainAndOfImpossibleAnswersHaveGradients) {
  for (const auto& [chosen, rejected] : {std::pair(-1e-5, -200.0), {-200.0, -1e-5}, {-1e-5, -1e-5}}) {
    PairScores scores = scores_of(chosen, rejected);
    scores.chosen.requires_grad_();
    pair_loss(scores, config_of(ObjectiveKind::kOrpo, 0.1)).sum.backward();
    EXPECT_TRUE(scores.chosen.grad().isfinite().all().item<bool>()) << chosen << " " << rejected;
  }
}

TEST(LabelledLoss, TheDivergenceIsNeverBelowZeroAndHasNoGradient) {
  LabelledScores scores{.logps = torch::tensor({-1.0f, -2.0f}),
                        .reference = torch::tensor({-2.0f, -1.0f}),
                        .is_desirable = torch::tensor({true, false}),
                        .mismatched = torch::tensor({-5.0f, -5.0f}),
                        .mismatched_reference = torch::tensor({-4.0f, -4.0f})};
  PreferenceConfig kto = config_of(ObjectiveKind::kKto, 0.5);
  kto.desirable_weight = 2;
  kto.undesirable_weight = 3;
  const auto value = [](double x) { return 1 / (1 + std::exp(-x)); };
  EXPECT_NEAR(labelled_loss(scores, kto).sum.item<double>(), 2 * (1 - value(0.5)) + 3 * (1 - value(0.5)), 1e-6);
  scores.mismatched = torch::tensor({-3.0f, -3.0f}).requires_grad_();  // a divergence of 1
  scores.logps.requires_grad_();
  const PreferenceLoss loss = labelled_loss(scores, kto);
  EXPECT_NEAR(loss.sum.item<double>(), 2 * (1 - value(0.0)) + 3 * (1 - value(1.0)), 1e-6);
  loss.sum.backward();
  EXPECT_FALSE(scores.mismatched.grad().defined());
  EXPECT_NEAR(metric_means(loss.metrics).at("rewards/margins"), 1.0, 1e-6);
}

TEST(ReferenceLogps, AFileOfOtherFactsOrADamagedOneCountsAsNone) {
  const test::TempFolder folder;
  const std::string path = folder / "reference.safetensors";
  ReferenceLogps made(path, {"data", "adapter"}, 3);
  EXPECT_FALSE(made.was_read() || made.has(0));
  made.set(0, -1.5f);
  made.set(2, -2.5f);
  made.save();
  const ReferenceLogps read(path, {"data", "adapter"}, 3);
  EXPECT_TRUE(read.was_read() && read.has(0) && !read.has(1) && read.has(2));
  EXPECT_EQ(read.at(2), -2.5f);
  EXPECT_TRUE(test::says(test::error_of([&] { read.at(1); }), "has no value for answer 1"));
  EXPECT_TRUE(ReferenceLogps(path, {"data", kLostAdapter}, 3).was_read());
  EXPECT_FALSE(ReferenceLogps(path, {"other", "adapter"}, 3).was_read());
  EXPECT_FALSE(ReferenceLogps(path, {"data", "other"}, 3).was_read());
  EXPECT_FALSE(ReferenceLogps(path, {"data", "adapter"}, 4).was_read());
  std::string bytes = test::read_bytes(path);
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  test::write_bytes(path, bytes);
  EXPECT_FALSE(ReferenceLogps(path, {"data", "adapter"}, 3).was_read());
}

data::Sample sample_of(std::vector<std::int64_t> ids, std::size_t prompt) {
  data::Sample sample{
      .input_ids = ids, .labels = ids, .token_types = std::vector<std::int64_t>(ids.size(), 0), .media = {}};
  for (std::size_t i = 0; i < prompt; ++i) sample.labels[i] = data::kIgnoreLabel;
  return sample;
}

TEST(PreferenceBatch, MismatchedRowsHaveOnesPromptAndTheOthersAnswer) {
  const data::Sample asked = sample_of({2, 10, 11, 12}, 2), answered = sample_of({2, 20, 21, 22, 23}, 3);
  const data::Sample row = data::mismatched(asked, answered, 0);
  EXPECT_EQ(row.input_ids, (std::vector<std::int64_t>{2, 10, 22, 23}));
  EXPECT_EQ(row.labels, (std::vector<std::int64_t>{data::kIgnoreLabel, data::kIgnoreLabel, 22, 23}));
  EXPECT_EQ(data::mismatched(asked, answered, 3).input_ids, (std::vector<std::int64_t>{2, 10, 22}));
}

TEST(PreferenceBatch, LabelsOfAPromptAreToldFromThoseOfItsAnswer) {
  data::Sample chosen = sample_of({2, 10, 11, 12}, 1), rejected = sample_of({2, 10, 13}, 2);
  chosen.answer_labels = {data::kIgnoreLabel, data::kIgnoreLabel, 11, 12};
  const std::vector<data::Sample> rows = {chosen, rejected};
  const std::vector<std::int64_t> numbers = {6, 7};
  const data::Batch batch = data::collate_answers(rows, numbers, 0);
  EXPECT_EQ(batch.num_labels(), 4);
  EXPECT_EQ(batch.preferences->is_answer, (std::vector<bool>{false, true, true, true}));
  EXPECT_EQ(batch.preferences->answers, numbers);
}

}  // namespace
}  // namespace bezel::train
