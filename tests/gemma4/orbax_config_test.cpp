#include "bezel/gemma4/orbax_config.h"

#include <gtest/gtest.h>

#include "bezel/gemma4/config.h"
#include "tests/support/temp_folder.h"

namespace bezel::gemma4 {
namespace {

using test::error_of;
using test::says;

/// The shapes of the released E2B's language model.
OrbaxShapes e2b() {
  OrbaxShapes shapes = {{"embedder.input_embedding", {262144, 1536}},
                        {"embedder.per_layer_embeddings", {262144, 35, 256}}};
  for (int i = 0; i < 35; ++i) {
    const std::string layer = "layer_" + std::to_string(i) + ".";
    const std::int64_t head_dim = i % 5 == 4 ? 512 : 256;
    shapes[layer + "attn.query_norm.scale"] = {head_dim};
    shapes[layer + "attn.q_einsum.w"] = {8, 1536, head_dim};
    shapes[layer + "attn.kv_einsum.w"] = {2, 1, 1536, head_dim};
    shapes[layer + "mlp.gating_einsum.w"] = {2, i < 15 ? 6144 : 12288, 1536};
  }
  return shapes;
}

TEST(OrbaxConfig, TheReleasedE2B) {
  const io::Json json = orbax_config(e2b(), "ckpt");
  const ModelConfig config = read_model_config(io::JsonView(json, "ckpt"));
  EXPECT_EQ(config.text.num_layers, 35);
  EXPECT_EQ(config.text.num_heads, 8);
  EXPECT_EQ(config.text.num_kv_shared_layers, 20);
  EXPECT_EQ(config.text.sliding_window, 512);
  EXPECT_EQ(config.text.hidden_size_per_layer_input, 256);
  EXPECT_EQ(config.text.final_logit_softcapping, 30.0);
  EXPECT_FALSE(config.vision.has_value());
  for (int i = 0; i < 35; ++i) {
    const TextLayerConfig& layer = config.text.layers[static_cast<std::size_t>(i)];
    EXPECT_EQ(layer.type, i % 5 == 4 ? LayerType::kFull : LayerType::kSliding) << i;
    EXPECT_EQ(layer.head_dim, i % 5 == 4 ? 512 : 256) << i;
    EXPECT_EQ(layer.intermediate_size, i < 15 ? 6144 : 12288) << i;
    EXPECT_EQ(layer.num_kv_heads, 1) << i;
  }
}

TEST(OrbaxConfig, OtherSizesNeedAConfig) {
  OrbaxShapes shapes = e2b();
  shapes["embedder.input_embedding"] = {262144, 1024};
  EXPECT_TRUE(says(error_of([&] { orbax_config(shapes, "ckpt"); }), "ckpt: 35 layers of width 1024"));
  EXPECT_TRUE(says(error_of([&] { orbax_config(shapes, "ckpt"); }), "--config"));
  shapes.erase("embedder.input_embedding");
  EXPECT_TRUE(says(error_of([&] { orbax_config(shapes, "ckpt"); }), "array 'embedder.input_embedding' is missing"));
}

TEST(OrbaxConfig, KnowsASizeByLayersAndWidth) {
  OrbaxShapes shapes = e2b();
  EXPECT_EQ(orbax_size(shapes), "E2B");
  shapes.erase("layer_34.attn.query_norm.scale");
  EXPECT_EQ(orbax_size(shapes), "");
  EXPECT_EQ(orbax_size({{"embedder.input_embedding", {262144}}}), "");
  EXPECT_EQ(orbax_size({}), "");
}

}  // namespace
}  // namespace bezel::gemma4
