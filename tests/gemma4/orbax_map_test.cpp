#include "bezel/gemma4/orbax_map.h"

#include <gtest/gtest.h>

#include "tests/support/temp_folder.h"

namespace bezel::gemma4 {
namespace {

using test::error_of;
using test::says;
using Shape = std::vector<std::int64_t>;

OrbaxMap dense() { return OrbaxMap({}); }
OrbaxMap experts() { return OrbaxMap({"layer_0.mlp.router_logits.w"}); }

/// Places in the array of a tensor's elements, in the tensor's order.
Shape places(const OrbaxTensor& tensor) {
  Shape out = {tensor.first};
  for (const OrbaxAxis& axis : tensor.axes) {
    Shape next;
    for (const std::int64_t place : out)
      for (std::int64_t i = 0; i < axis.size; ++i) next.push_back(place + i * axis.stride);
    out = next;
  }
  return out;
}

TEST(OrbaxMap, QueriesOfAllHeadsBecomeRows) {
  // [N, D, h] = [2, 3, 2]: row n * h + k, column d is element (n, d, k).
  const auto tensors = dense().tensors_of("layer_12.attn.q_einsum.w", {2, 3, 2});
  ASSERT_TRUE(tensors && tensors->size() == 1);
  EXPECT_EQ((*tensors)[0].name, "model.language_model.layers.12.self_attn.q_proj.weight");
  EXPECT_EQ((*tensors)[0].shape, (Shape{4, 3}));
  Shape wanted;
  for (int n = 0; n < 2; ++n)
    for (int k = 0; k < 2; ++k)
      for (int d = 0; d < 3; ++d) wanted.push_back(n * 6 + d * 2 + k);
  EXPECT_EQ(places((*tensors)[0]), wanted);
  EXPECT_FALSE((*tensors)[0].contiguous());
}

TEST(OrbaxMap, KeysAndValuesShareAnArray) {
  const auto tensors = dense().tensors_of("layer_0.attn.kv_einsum.w", {2, 1, 3, 2});
  ASSERT_TRUE(tensors && tensors->size() == 2);
  EXPECT_EQ((*tensors)[0].name, "model.language_model.layers.0.self_attn.k_proj.weight");
  EXPECT_EQ((*tensors)[1].name, "model.language_model.layers.0.self_attn.v_proj.weight");
  EXPECT_EQ(places((*tensors)[0]), (Shape{0, 2, 4, 1, 3, 5}));
  EXPECT_EQ(places((*tensors)[1]), (Shape{6, 8, 10, 7, 9, 11}));
}

TEST(OrbaxMap, TablesKeepTheirOrder) {
  const auto tensors = dense().tensors_of("embedder.per_layer_embeddings", {5, 3, 2});
  ASSERT_TRUE(tensors && tensors->size() == 1);
  EXPECT_EQ((*tensors)[0].name, "model.language_model.embed_tokens_per_layer.weight");
  EXPECT_EQ((*tensors)[0].shape, (Shape{5, 6}));
  EXPECT_TRUE((*tensors)[0].contiguous());
}

TEST(OrbaxMap, LayersOfTheVisionTowerAreStacked) {
  const std::string block = "vision_encoder.transformer.stacked_layers.block.";
  const auto tensors = dense().tensors_of(block + "mlp.gating_einsum.w", {3, 2, 4, 5});
  ASSERT_TRUE(tensors && tensors->size() == 6);
  EXPECT_EQ((*tensors)[3].name, "model.vision_tower.encoder.layers.1.mlp.up_proj.weight");
  EXPECT_EQ((*tensors)[3].first, 60);
  EXPECT_EQ((*tensors)[3].shape, (Shape{4, 5}));
  const auto bounds = dense().tensors_of(block + "attn.kv_einsum.clip_output_max", {3});
  ASSERT_TRUE(bounds && bounds->size() == 6);
  EXPECT_EQ((*bounds)[5].name, "model.vision_tower.encoder.layers.2.self_attn.v_proj.output_max");
  EXPECT_EQ((*bounds)[5].shape, Shape{});
  EXPECT_EQ((*bounds)[5].first, 2);
}

TEST(OrbaxMap, ALayerWithARouterHasOtherNames) {
  const auto name = [](const OrbaxMap& map, const char* array, const Shape& shape) {
    return map.tensors_of(array, shape)->at(0).name;
  };
  const std::string layer = "model.language_model.layers.0.";
  EXPECT_EQ(name(dense(), "layer_0.pre_ffw_norm.scale", {4}), layer + "pre_feedforward_layernorm.weight");
  EXPECT_EQ(name(experts(), "layer_0.pre_ffw_norm.scale", {4}), layer + "pre_feedforward_layernorm_2.weight");
  EXPECT_EQ(name(experts(), "layer_0.pre_ffw2_norm.scale", {4}), layer + "pre_feedforward_layernorm.weight");
  EXPECT_EQ(name(experts(), "layer_0.post_ffw2_norm.scale", {4}), layer + "post_feedforward_layernorm_1.weight");
  EXPECT_EQ(name(experts(), "layer_0.post_ffw1_norm.scale", {4}), layer + "post_feedforward_layernorm_2.weight");
  EXPECT_EQ(name(experts(), "layer_0.post_ffw_norm.scale", {4}), layer + "post_feedforward_layernorm.weight");
  EXPECT_EQ(name(experts(), "layer_0.mlp2.linear.w", {4, 3}), layer + "mlp.down_proj.weight");
  const auto joined = experts().tensors_of("layer_0.mlp.gating_einsum.w", {8, 2, 4, 3});
  ASSERT_TRUE(joined && joined->size() == 1);
  EXPECT_EQ((*joined)[0].shape, (Shape{8, 8, 3}));
}

TEST(OrbaxMap, OtherSpellingsOfAName) {
  EXPECT_EQ(normal_orbax_name({"transformer/layer_0/attn/q_einsum", "w"}), "layer_0.attn.q_einsum.w");
  EXPECT_EQ(normal_orbax_name({"params", "layer_0", "skip_scale"}), "layer_0.skip_scale");
  EXPECT_EQ(normal_orbax_name({"audio_encoder", "conformer/stacked_layers_3", "final_ln", "scale"}),
            "audio_encoder.conformer.stacked_layers_3.final_ln.scale");
  EXPECT_TRUE(dense().tensors_of("layer_0.mlp.gating_einsum", {2, 4, 3}).has_value());
}

TEST(OrbaxMap, UnknownNamesAndOtherShapes) {
  for (const char* name : {"embedder.mm_input_embedding_extra", "layer_x.skip_scale", "layer_00.skip_scale", "layer_1",
                           "layer_0.attn.q_einsum.clip_middle", "transformer", ""})
    EXPECT_FALSE(dense().tensors_of(name, {1})) << name;
  const auto complaint = [](const char* name, const Shape& shape) {
    return error_of([&] { dense().tensors_of(name, shape); });
  };
  EXPECT_TRUE(says(complaint("layer_0.attn.q_einsum.w", {2, 3}), "shape [2, 3], expected 3 dimensions"));
  EXPECT_TRUE(says(complaint("layer_0.attn.kv_einsum.w", {3, 1, 2, 2}), "expected 2 in dimension 0"));
}

}  // namespace
}  // namespace bezel::gemma4
