#include "bezel/train/residency.h"

#include <fstream>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "bezel/gemma4/load.h"
#include "bezel/io/tensor_io.h"
#include "bezel/train/forward.h"
#include "support/temp_folder.h"
#include "support/tiny_model.h"

namespace bezel::train {
namespace {

using gemma4::Phase;

input::Batch batch_with_media(const gemma4::Model& model) {
  input::RawInputs raw;
  raw.input_ids = at::arange(3, 11, at::kLong).unsqueeze(0);
  raw.labels = raw.input_ids.clone();
  return model->make_batch(raw);
}

TEST(Residency, ObserversSeeThePhasesThatRanInOrder) {
  const test::TempFolder temp;
  test::write_tiny_checkpoint(temp.path().string());
  gemma4::Model model = gemma4::load_model(temp.path().string(), {torch::kFloat, torch::kCPU, {}}).model;
  std::vector<Phase> seen;
  const input::Batch batch = batch_with_media(model);
  const torch::Tensor watched = loss_sum(model, batch, [&seen](Phase phase) { seen.push_back(phase); });
  EXPECT_EQ(seen, (std::vector<Phase>{Phase::decoder(), Phase::head()}));
  EXPECT_TRUE(torch::equal(watched, loss_sum(model, batch)));
}

TEST(Residency, EvictionDoesNotChangeTheLoss) {
  const test::TempFolder temp;
  test::write_tiny_checkpoint(temp.path().string());
  gemma4::Model model = gemma4::load_model(temp.path().string(), {torch::kFloat, torch::kCPU, {}}).model;
  const input::Batch batch = batch_with_media(model);
  const torch::Tensor wanted = loss_sum(model, batch);
  const Residency residency(model);
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(torch::equal(loss_sum(model, batch, residency.observer()), wanted));
  for (const input::MediaKind kind : input::kMediaKinds) residency.after(Phase::encoder(kind));
  for (const Phase phase : {Phase::decoder(), Phase::head()}) residency.after(phase);
  EXPECT_TRUE(torch::equal(loss_sum(model, batch), wanted));
}

}  // namespace
}  // namespace bezel::train
