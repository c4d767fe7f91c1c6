#include "bezel/quant/gguf_mix.h"

#include <algorithm>

#include <gtest/gtest.h>

// tests/parity/gguf_out.py compares whole models with llama-quantize.
namespace bezel::quant {
namespace {

using io::GgufType;

std::vector<GgufType> types(GgufMix mix, const std::vector<GgufMatrix>& matrices, std::int64_t num_layers = 1,
                            std::int64_t num_experts = 0) {
  return gguf_types(mix, matrices, num_layers, num_experts);
}

GgufType type(GgufMix mix, const std::string& name, std::vector<std::int64_t> shape, std::int64_t num_experts = 0) {
  return types(mix, {{name, std::move(shape), GgufType::kBF16}}, 40, num_experts).front();
}

TEST(GgufMix, NamesAreThoseOfLlamaCpp) {
  for (const std::string& name : gguf_mix_names()) EXPECT_TRUE(gguf_mix(name));
  EXPECT_EQ(gguf_mix("q4_k_m"), GgufMix::kQ4_K_M);
  EXPECT_EQ(static_cast<std::uint32_t>(GgufMix::kQ4_K_M), 15u);  // LLAMA_FTYPE_MOSTLY_Q4_K_M
  EXPECT_FALSE(gguf_mix("Q4_K_M"));
}

TEST(GgufMix, VectorsNormsAndRoutersStayWide) {
  for (const GgufMix mix : {GgufMix::kBF16, GgufMix::kQ8_0}) {
    EXPECT_EQ(type(mix, "output_norm.weight", {256}), GgufType::kF32);
    EXPECT_EQ(type(mix, "blk.0.ffn_gate_inp.weight", {8, 256}), GgufType::kF32);
    EXPECT_EQ(type(mix, "blk.0.ffn_down_exps.scale", {8}), GgufType::kF32);
    EXPECT_EQ(type(mix, "rope_freqs.weight", {128}), GgufType::kF32);
  }
}

TEST(GgufMix, TheProjectionOfPerLayerEmbeddingsIsLeftAlone) {
  EXPECT_EQ(type(GgufMix::kQ4_K_M, "per_layer_model_proj.weight", {512, 256}), GgufType::kBF16);
  EXPECT_EQ(type(GgufMix::kF16, "per_layer_model_proj.weight", {512, 256}), GgufType::kF16);
}

TEST(GgufMix, TiedEmbeddingsAreStoredLikeAHead) {
  EXPECT_EQ(type(GgufMix::kQ4_0, "token_embd.weight", {1000, 512}), GgufType::kQ6_K);
  EXPECT_EQ(type(GgufMix::kQ4_K_M, "token_embd.weight", {1000, 640}), GgufType::kQ8_0);  // no whole 256
  EXPECT_EQ(type(GgufMix::kQ8_0, "token_embd.weight", {1000, 512}), GgufType::kQ8_0);
  const auto untied = types(GgufMix::kQ4_0, {{"output.weight", {1000, 512}}, {"token_embd.weight", {1000, 512}}});
  EXPECT_EQ(untied, (std::vector<GgufType>{GgufType::kQ6_K, GgufType::kQ4_0}));
}

TEST(GgufMix, RowsWithoutWholeBlocksGetSmallerOnes) {
  EXPECT_EQ(type(GgufMix::kQ4_K_M, "blk.20.attn_q.weight", {64, 256}), GgufType::kQ4_K);
  EXPECT_EQ(type(GgufMix::kQ4_K_M, "blk.20.attn_q.weight", {64, 96}), GgufType::kQ5_0);
  EXPECT_EQ(type(GgufMix::kQ4_K_M, "blk.20.attn_q.weight", {64, 48}), GgufType::kF16);
  EXPECT_EQ(type(GgufMix::kQ4_0, "blk.20.attn_q.weight", {64, 48}), GgufType::kF16);
}

// 24 layers: the first three and the last three, and of those between every third.
TEST(GgufMix, SomeLayersGetMoreBits) {
  std::vector<GgufMatrix> downs, values;
  for (int layer = 0; layer < 24; ++layer) {
    downs.push_back({"blk." + std::to_string(layer) + ".ffn_down.weight", {64, 256}});
    values.push_back({"blk." + std::to_string(layer) + ".attn_v.weight", {64, 96}});
  }
  const std::vector<int> wanted{0, 1, 2, 5, 8, 11, 14, 17, 20, 21, 22, 23};
  const auto of_downs = types(GgufMix::kQ4_K_M, downs, 24), of_values = types(GgufMix::kQ4_K_M, values, 24);
  for (int layer = 0; layer < 24; ++layer) {
    const bool more = std::ranges::count(wanted, layer) > 0;
    EXPECT_EQ(of_downs[static_cast<std::size_t>(layer)], more ? GgufType::kQ6_K : GgufType::kQ4_K) << layer;
    EXPECT_EQ(of_values[static_cast<std::size_t>(layer)], more ? GgufType::kQ8_0 : GgufType::kQ5_0) << layer;
  }
}

TEST(GgufMix, EightExpertsGetMoreBitsInAttention) {
  EXPECT_EQ(type(GgufMix::kQ4_K_M, "blk.20.attn_k.weight", {64, 256}, 8), GgufType::kQ8_0);
  EXPECT_EQ(type(GgufMix::kQ4_K_M, "blk.20.attn_output.weight", {64, 256}, 8), GgufType::kQ5_K);
  EXPECT_EQ(type(GgufMix::kQ4_K_M, "blk.20.attn_output.weight", {64, 256}, 16), GgufType::kQ4_K);
}

TEST(GgufMix, LayersComeInOrderOfTheirNumbers) {
  std::vector<std::string> names{"blk.10.a", "output_norm.weight", "blk.9.b", "blk.9.a", "blk.10.b"};
  std::ranges::sort(names, gguf_name_before);
  EXPECT_EQ(names, (std::vector<std::string>{"output_norm.weight", "blk.9.a", "blk.9.b", "blk.10.a", "blk.10.b"}));
}

}  // namespace
}  // namespace bezel::quant
