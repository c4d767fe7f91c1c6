#include "bezel/gemma4/model.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "bezel/nn/random_keys.h"
#include "bezel/train/forward.h"
#include "bezel/train/loss.h"
#include "support/adapted_model.h"
#include "support/tiny_model.h"

namespace bezel::gemma4 {
namespace {

using test::adapted_model;
using test::expect_close;
using test::gradients;
using torch::Tensor;

// Two rows of different length, labels scattered, not the same number in each.
input::Batch scattered_batch(Model& model) {
  input::RawInputs raw;
  raw.input_ids = torch::tensor({{2, 5, 9, 8, 7, 4, 3, 11, 12, 13}, {2, 8, 3, 3, 5, 17, 18, 0, 0, 0}});
  raw.attention_mask = torch::tensor({{1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, {1, 1, 1, 1, 1, 1, 1, 0, 0, 0}});
  raw.labels = torch::full({2, 10}, input::kIgnoreLabel, at::kLong);
  for (const auto& [row, column] : {std::pair{0, 2}, {0, 5}, {0, 6}, {0, 9}, {1, 1}, {1, 6}})
    raw.labels[row][column] = raw.input_ids[row][column];
  return model->make_batch(raw);
}

TEST(LabelStates, EqualThoseOfTheFullComputation) {
  Model model = adapted_model(0.0);
  for (const input::Batch& batch : {scattered_batch(model), test::tiny_batch()}) {
    const Tensor full = model->hidden_states(batch).flatten(0, 1).index_select(0, batch.label_flat_index);
    const Tensor narrow = model->label_states(batch);
    EXPECT_EQ(narrow.size(0), batch.num_labels());
    EXPECT_LE((narrow - full).abs().max().item<double>(), 1e-5 * full.abs().max().item<double>());
  }
}

// Two samples with an image and an audio clip each in one row, apart from each other.
input::Batch packed_batch() {
  const input::RawInputs one = test::tiny_inputs();
  const auto twice = [](const Tensor& x, std::int64_t dim) { return torch::cat({x, x}, dim); };
  input::RawInputs raw;
  raw.input_ids = twice(one.input_ids, 1);
  raw.labels = twice(one.labels, 1);
  raw.pixel_values = twice(one.pixel_values, 0);
  raw.image_position_ids = twice(one.image_position_ids, 0);
  raw.input_features = twice(one.input_features, 0);
  raw.input_features_mask = twice(one.input_features_mask, 0);
  const std::int64_t tokens = one.input_ids.size(1);
  for (const std::int64_t place : {1, 4, 8}) raw.labels[0][tokens + place] = raw.input_ids[0][tokens + place];
  input::Batch batch = test::tiny_batch(raw);
  batch.segment_start = torch::cat({torch::zeros({1, tokens}, at::kLong), torch::full({1, tokens}, tokens)}, 1);
  return batch;
}

TEST(LabelStates, GiveLossAndGradientsOfTheFullComputation) {
  Model model = adapted_model(0.0);
  // All labels come behind image and audio, so that every adapter is reached.
  std::vector<input::Batch> batches{test::tiny_batch(), packed_batch()};
  for (const std::vector<std::int64_t>& places : {std::vector<std::int64_t>{9}, {4, 11}, {2, 3, 5, 8}}) {
    input::RawInputs raw = test::tiny_inputs();
    raw.labels.fill_(input::kIgnoreLabel);
    for (const std::int64_t place : places) raw.labels[0][place] = raw.input_ids[0][place];
    batches.push_back(test::tiny_batch(raw));
  }
  for (std::size_t i = 0; i < batches.size(); ++i) {
    SCOPED_TRACE(i);
    const input::Batch& batch = batches[i];
    const Tensor full = model->hidden_states(batch).flatten(0, 1).index_select(0, batch.label_flat_index);
    const Tensor loss = train::cross_entropy_sum(full, *model->output_embedding(), batch.label_ids,
                                                 model->config().text.final_logit_softcapping);
    const auto wanted = gradients(model, loss), got = gradients(model, train::loss_sum(model, batch));
    EXPECT_NEAR(got[0].item<double>(), wanted[0].item<double>(), 1e-6 * wanted[0].item<double>());
    expect_close(got, wanted, 5e-6);  // products of other sizes round in another order
  }
}

TEST(Packing, RowOfSeveralSamplesEqualsThemApart) {
  Model model = adapted_model(0.0);
  const std::vector<Tensor> samples{torch::tensor({2, 5, 9, 8, 7, 4, 3, 11, 12, 13}), torch::tensor({2, 8, 3}),
                                    torch::tensor({2, 3, 5, 17, 18, 21, 22, 23, 24})};
  input::RawInputs raw;
  raw.input_ids = torch::cat(samples).unsqueeze(0);
  input::Batch packed = model->make_batch(raw);
  packed.segment_start = torch::cat({torch::full({10}, 0), torch::full({3}, 10), torch::full({9}, 13)}).to(at::kLong);
  packed.segment_start = packed.segment_start.unsqueeze(0);
  const Tensor together = model->hidden_states(packed)[0];
  std::vector<Tensor> apart;
  for (const Tensor& ids : samples) {
    input::RawInputs one;
    one.input_ids = ids.unsqueeze(0);
    apart.push_back(model->hidden_states(model->make_batch(one))[0]);
  }
  const Tensor wanted = torch::cat(apart);
  EXPECT_LE((together - wanted).abs().max().item<double>(), 1e-5 * wanted.abs().max().item<double>());
}

TEST(Recompute, GivesTheSameLossAndGradients) {
  for (const double dropout : {0.0, 0.3}) {
    Model model = adapted_model(dropout);
    const input::Batch batch = test::tiny_batch();
    const auto run = [&](bool recompute) {
      const nn::ScopedRandomKeys random(nn::RandomKeys::of_step(7, 0));  // the same dropout in both
      model->set_recompute(recompute);
      return gradients(model, train::mean_loss(model, batch));
    };
    const auto wanted = run(false);
    expect_close(run(true), wanted, 1e-6);
  }
}

TEST(Recompute, DrawsNothingFromTorchsGenerator) {
  Model model = adapted_model(0.3);
  const input::Batch batch = test::tiny_batch();
  const nn::ScopedRandomKeys random(nn::RandomKeys::of_step(7, 0));
  for (const bool recompute : {false, true}) {
    torch::manual_seed(7);
    const float wanted = torch::rand({}).item<float>();
    torch::manual_seed(7);
    model->set_recompute(recompute);
    gradients(model, train::mean_loss(model, batch));
    EXPECT_EQ(torch::rand({}).item<float>(), wanted);
  }
}

}  // namespace
}  // namespace bezel::gemma4
