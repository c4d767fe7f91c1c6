#include "bezel/nn/weight_site.h"

#include <algorithm>
#include <map>

#include <gtest/gtest.h>

#include "bezel/gemma4/load.h"
#include "bezel/gemma4/model.h"
#include "support/tiny_model.h"

namespace bezel::nn {
namespace {

gemma4::ModelConfig config_with_experts_and_head() {
  gemma4::ModelConfig config = test::tiny_config();
  config.text.num_experts = 4;
  config.text.top_k_experts = 2;
  config.text.moe_intermediate_size = 8;
  config.text.tie_word_embeddings = false;
  return config;
}

TEST(WeightSites, AreEveryMatrixByItsRole) {
  const gemma4::Model model = gemma4::meta_model(config_with_experts_and_head(), torch::kFloat);
  std::map<MatrixRole, std::int64_t> counts;
  std::vector<std::string> others;
  for (const WeightSite& site : weight_sites(*model)) {
    ++counts[site.role()];
    if (site.role() != MatrixRole::kLinear) others.push_back(site.name());
    EXPECT_EQ(site.layer != nullptr, site.role() == MatrixRole::kLinear || site.role() == MatrixRole::kHead);
    ASSERT_TRUE(site.weight()) << site.name();
    EXPECT_EQ(site.weight()->shape(), site.slot->shape) << site.name();
  }
  const std::string layers = "model.language_model.layers.";
  std::vector<std::string> wanted{"model.language_model.embed_tokens"};
  for (const char* layer : {"0", "1", "2", "3"})
    for (const char* name : {".experts.gate_up_proj", ".experts.down_proj"}) wanted.push_back(layers + layer + name);
  wanted.insert(wanted.end(), {"model.language_model.embed_tokens_per_layer", "lm_head"});
  EXPECT_EQ(others, wanted);
  // Decoder: two layers with keys of their own (q, k, v, o) and two without (q, o); in each three of the MLP, two of
  // the per-layer input, a router; and the per-layer projection. Vision: two layers of seven and the patch projection.
  // Audio: two layers of five for attention, four for feed-forward, two for the convolution; the input and the output
  // projection. Two projectors.
  EXPECT_EQ(counts[MatrixRole::kLinear], (2 * 4 + 2 * 2 + 4 * 6 + 1) + (2 * 7 + 1) + (2 * 11 + 2) + 2);
  EXPECT_EQ(linear_sites(*model).size(), static_cast<std::size_t>(counts[MatrixRole::kLinear]));
}

TEST(WeightSites, HaveNoWeightBeforeACheckpointIsLoaded) {
  const gemma4::Model model(test::tiny_config(), torch::kFloat);
  for (const WeightSite& site : weight_sites(*model)) EXPECT_FALSE(site.weight()) << site.name();
}

TEST(WeightSites, AllButLinearLayersSayWhyNoAdapterAttaches) {
  EXPECT_EQ(refusal_of(MatrixRole::kLinear), "");
  for (const MatrixRole role : {MatrixRole::kHead, MatrixRole::kEmbedding, MatrixRole::kExperts})
    EXPECT_TRUE(refusal_of(role).starts_with("is "));
}

}  // namespace
}  // namespace bezel::nn
