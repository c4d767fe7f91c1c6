#include "bezel/generate/generator.h"

#include <cmath>
#include <functional>
#include <memory>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "bezel/nn/module.h"
#include "bezel/quant/integer.h"
#include "support/temp_folder.h"
#include "support/tiny_model.h"

namespace bezel::generate {
namespace {

using torch::Tensor;

gemma4::Model random_model(const gemma4::ModelConfig& config) {
  torch::manual_seed(3);
  gemma4::Model model(config, torch::kFloat);
  for (const auto& item : model->named_modules()) {
    auto* module = dynamic_cast<nn::Module*>(item.value().get());
    if (module == nullptr) continue;
    for (const nn::Slot& slot : module->slots()) {
      if (slot.kind == nn::SlotKind::kVector) slot.assign(1 + 0.2 * torch::randn(slot.shape));
      if (slot.kind == nn::SlotKind::kMatrix)
        slot.assign_weight(quant::dense_weight(
            torch::randn(slot.shape) / std::sqrt(static_cast<double>(slot.shape.back())), slot.name));
    }
  }
  model->eval();
  return model;
}

// The shape of E2B: per-layer inputs, layers that share keys and values.
gemma4::ModelConfig edge_config() { return test::tiny_config(); }

// The shape of the large ones: K = V on full layers, two-sided attention inside an image, experts, no sharing.
gemma4::ModelConfig large_config() {
  gemma4::ModelConfig config = test::tiny_config();
  gemma4::TextConfig& text = config.text;
  text.bidirectional_vision = true;
  text.hidden_size_per_layer_input = 0;
  text.num_kv_shared_layers = 0;
  text.num_experts = 4;
  text.top_k_experts = 2;
  text.moe_intermediate_size = 8;
  for (gemma4::TextLayerConfig& layer : text.layers) {
    layer.kv_mode = gemma4::KvMode::kOwn;
    layer.key_is_value = layer.type == gemma4::LayerType::kFull;
  }
  return config;
}

// Text, an image of 8 soft tokens (the window is 6), text, an audio clip of 3, text; and `more` behind them.
input::RawInputs inputs(const std::vector<std::int64_t>& more = {}) {
  torch::manual_seed(12);
  std::vector<std::int64_t> ids{2, 5, 7, 60, 60, 60, 60, 60, 60, 60, 60, 9, 11, 3, 61, 61, 61, 8, 13, 4, 6, 12, 3, 17};
  ids.insert(ids.end(), more.begin(), more.end());
  input::RawInputs raw;
  raw.input_ids = at::tensor(ids, at::kLong).unsqueeze(0);
  const Tensor index = torch::arange(72, at::kLong);
  raw.pixel_values = torch::rand({1, 72, 48});
  raw.image_position_ids = torch::stack({index.remainder(12), index.div(12, "floor")}, -1).unsqueeze(0);
  raw.input_features = torch::randn({1, 12, 128});
  raw.input_features_mask = torch::ones({1, 12}, at::kBool);
  return raw;
}

// Logits of the last position without any cache.
Tensor plain_logits(gemma4::Model& model, const input::RawInputs& raw) {
  const at::NoGradGuard no_grad;
  const Tensor states = model->hidden_states(model->make_batch(raw));
  return model->logits(states.select(1, states.size(1) - 1)).select(0, 0);
}

void expect_same(const Tensor& got, const Tensor& wanted, const std::string& where) {
  EXPECT_LE((got - wanted).abs().max().item<double>(), 2e-5 * wanted.abs().max().item<double>()) << where;
}

class Reading : public testing::TestWithParam<gemma4::ModelConfig (*)()> {};

TEST_P(Reading, InChunksAndTokenByTokenIsReadingAtOnce) {
  gemma4::Model model = random_model(GetParam()());
  const Tensor wanted = plain_logits(model, inputs());
  for (const std::int64_t chunk : {1, 2, 3, 5, 6, 7, 13, 24}) {
    Generator generator(model, chunk);
    std::vector<std::int64_t> more;
    const std::string where = "chunks of " + std::to_string(chunk);
    expect_same(generator.prefill(model->make_batch(inputs())), wanted, where);
    for (const std::int64_t token : {14, 15, 16, 3, 3, 9, 10, 11, 12}) {
      more.push_back(token);
      expect_same(generator.decode(token), plain_logits(model, inputs(more)),
                  where + ", then " + std::to_string(more.size()));
    }
  }
}

TEST_P(Reading, GoesOnWhereThePromptBeginsWithWhatWasRead) {
  gemma4::Model model = random_model(GetParam()());
  Generator generator(model, 7);
  generator.prefill(model->make_batch(inputs()));
  generator.decode(14);
  const input::RawInputs longer = inputs({14, 19, 3, 8});
  int chunks = 0;
  expect_same(generator.prefill(model->make_batch(longer), [&] { return ++chunks > 99; }), plain_logits(model, longer),
              "on");
  EXPECT_EQ(chunks, 1);  // the three new tokens
  const input::RawInputs other = inputs({15, 19, 3, 8});
  expect_same(generator.prefill(model->make_batch(other)), plain_logits(model, other), "another");
  EXPECT_EQ(generator.tokens().size(), 28u);
}

INSTANTIATE_TEST_SUITE_P(Shapes, Reading, testing::Values(&edge_config, &large_config),
                         [](const auto& info) { return info.index == 0 ? "edge" : "large"; });

// Greedy by definition: the whole text anew for each token.
std::vector<std::int64_t> plain_greedy(gemma4::Model& model, int count) {
  std::vector<std::int64_t> more;
  for (int i = 0; i < count; ++i) more.push_back(plain_logits(model, inputs(more)).argmax().item<std::int64_t>());
  return more;
}

TEST(Generate, GreedyIsTheMostProbableTokenEachTime) {
  gemma4::Model model = random_model(edge_config());
  Generator generator(model, 8);
  Sampler sampler({}, 0);
  const Generated out =
      generate(generator, model->make_batch(inputs()), sampler, {.max_new_tokens = 12, .stop_ids = {}});
  EXPECT_EQ(out.tokens, plain_greedy(model, 12));
  EXPECT_EQ(out.finish, Finish::kLength);
}

TEST(Generate, StopsBehindAStopToken) {
  gemma4::Model model = random_model(edge_config());
  const auto wanted = plain_greedy(model, 3);
  Generator generator(model);
  Sampler sampler({}, 0);
  const Generated out =
      generate(generator, model->make_batch(inputs()), sampler, {.max_new_tokens = 12, .stop_ids = {wanted[2]}});
  EXPECT_EQ(out.tokens.back(), wanted[2]);
  EXPECT_LE(out.tokens.size(), 3u);
  EXPECT_EQ(out.finish, Finish::kStopToken);
}

TEST(Generate, IsInterruptedByTheCallback) {
  gemma4::Model model = random_model(edge_config());
  Generator generator(model, 4);
  Sampler sampler({}, 0);
  int calls = 0;
  const input::Batch prompt = model->make_batch(inputs());
  const Generated in_prompt = generate(generator, prompt, sampler, {}, [&](std::int64_t) { return ++calls < 2; });
  EXPECT_EQ(in_prompt.finish, Finish::kInterrupted);
  EXPECT_TRUE(in_prompt.tokens.empty());
  generator.reset();
  std::size_t seen = 0;
  const Generated later =
      generate(generator, prompt, sampler, {}, [&](std::int64_t token) { return token < 0 || ++seen < 4; });
  EXPECT_EQ(later.finish, Finish::kInterrupted);
  EXPECT_EQ(later.tokens.size(), 4u);
}

TEST(Generate, EndsWhereTheContextDoes) {
  gemma4::ModelConfig config = edge_config();
  config.text.max_position_embeddings = 27;
  gemma4::Model model = random_model(config);
  Generator generator(model);
  Sampler sampler({}, 0);
  EXPECT_EQ(generate(generator, model->make_batch(inputs()), sampler, {}).tokens.size(), 3u);
  EXPECT_TRUE(test::says(test::error_of([&] {
                           generate(generator, model->make_batch(inputs({3, 3, 3})), sampler, {});
                         }),
                         "fills the model's context"));
  EXPECT_TRUE(test::says(test::error_of([&] {
                           generator.prefill(model->make_batch(inputs({3, 3, 3, 3})));
                         }),
                         "has 28 tokens"));
}

// bfloat16, as wide as the product over int8 codes asks for; the head, tied to the embeddings, as `head` makes it.
gemma4::Model narrow_model(const std::function<std::shared_ptr<const quant::Weight>(const Tensor&)>& head) {
  gemma4::ModelConfig config = edge_config();
  config.text.hidden_size = 64;
  torch::manual_seed(3);
  gemma4::Model model(config, torch::kBFloat16);
  nn::for_each_module(*model, [](const std::string&, nn::Module& module) {
    for (const nn::Slot& slot : module.slots()) {
      if (slot.kind == nn::SlotKind::kVector) slot.assign(1 + 0.2 * torch::randn(slot.shape));
      if (slot.kind == nn::SlotKind::kMatrix)
        slot.assign_weight(quant::dense_weight(
            (torch::randn(slot.shape) / std::sqrt(static_cast<double>(slot.shape.back()))).to(torch::kBFloat16),
            slot.name));
    }
  });
  auto& table = model->model->language_model->embed_tokens->weight;
  table = head(table->dequantize(torch::kBFloat16));
  model->eval();
  return model;
}

TEST(Generate, WithEmbeddingsInInt8IsTheDenseDecoderOverTheDequantizedOnes) {
  gemma4::Model coded = narrow_model(
      [](const Tensor& table) { return quant::integer_weight(quant::quantize_int8(table), "embeddings"); });
  gemma4::Model dense = narrow_model([](const Tensor& table) {
    return quant::dense_weight(quant::dequantize(quant::quantize_int8(table)), "embeddings");
  });
  ASSERT_EQ(coded->output_embedding()->storage(), "int8");
  Generator got(coded), wanted(dense);
  input::RawInputs text;
  text.input_ids = torch::tensor({{2, 5, 7, 9, 11, 3}});
  const auto expect_near = [](const Tensor& a, const Tensor& b) {  // two steps of bfloat16 at the largest
    EXPECT_LE((a - b).abs().max().item<double>(), b.abs().max().item<double>() / 64);
  };
  expect_near(got.prefill(coded->make_batch(text)), wanted.prefill(dense->make_batch(text)));
  for (const std::int64_t token : {14, 15, 16, 3, 3, 9, 10, 11, 12})
    expect_near(got.decode(token), wanted.decode(token));
}

}  // namespace
}  // namespace bezel::generate
