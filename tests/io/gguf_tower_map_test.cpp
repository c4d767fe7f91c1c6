#include "bezel/io/gguf_tower_map.h"

#include <gtest/gtest.h>

// tests/parity/mmproj_out.py compares with the table of PyPI gguf.
namespace bezel::io {
namespace {

TEST(GgufTowerMap, NamesLayersBoundsAndWholeTensors) {
  const std::pair<const char*, const char*> rows[] = {
      {"model.vision_tower.encoder.layers.12.self_attn.q_proj.weight", "v.blk.12.attn_q.weight"},
      {"model.vision_tower.encoder.layers.0.mlp.down_proj.output_max", "v.blk.0.ffn_down.output_max"},
      {"model.vision_tower.patch_embedder.position_embedding_table", "v.position_embd.weight"},
      {"model.vision_tower.std_scale", "v.std_scale"},
      {"model.audio_tower.layers.3.feed_forward2.ffw_layer_1.input_min", "a.blk.3.ffn_up_1.input_min"},
      {"model.audio_tower.layers.3.self_attn.per_dim_scale", "a.blk.3.per_dim_scale.weight"},
      {"model.audio_tower.output_proj.bias", "a.pre_encode.out.bias"},
      {"model.audio_tower.subsample_conv_projection.layer1.norm.weight", "a.conv1d.1.norm.weight"},
      {"model.embed_audio.embedding_projection.weight", "mm.a.input_projection.weight"}};
  for (const auto& [canonical, stored] : rows) {
    EXPECT_EQ(gguf_tower_name(canonical), stored);
    EXPECT_EQ(canonical_gguf_tower_name(stored), canonical);
  }
}

TEST(GgufTowerMap, TheSameNamesAreOtherTensorsOfThe12B) {
  const std::pair<const char*, const char*> rows[] = {
      {"model.embed_vision.multimodal_embedder.embedding_projection.weight", "mm.input_projection.weight"},
      {"model.embed_audio.embedding_projection.weight", "mm.a.input_projection.weight"},
      {"model.embed_vision.patch_dense.bias", "v.patch_embd.bias"},
      {"model.embed_vision.patch_ln1.weight", "v.patch_norm.1.weight"},
      {"model.embed_vision.patch_ln2.bias", "v.patch_norm.2.bias"},
      {"model.embed_vision.pos_norm.weight", "v.patch_norm.3.weight"},
      {"model.embed_vision.pos_embedding", "v.position_embd.weight"}};
  for (const auto& [canonical, stored] : rows) {
    EXPECT_EQ(gguf_tower_name(canonical), stored);
    EXPECT_EQ(canonical_gguf_embedder_name(stored), canonical);
  }
  EXPECT_EQ(canonical_gguf_tower_name("mm.input_projection.weight"), "model.embed_vision.embedding_projection.weight");
  EXPECT_FALSE(canonical_gguf_tower_name("v.patch_norm.1.weight"));
  for (const char* name : {"v.blk.0.attn_q.weight", "v.std_bias", "a.conv1d.0.weight", "v.patch_norm.1", ""})
    EXPECT_FALSE(canonical_gguf_embedder_name(name)) << name;
}

TEST(GgufTowerMap, KnowsNoOtherTensors) {
  for (const char* name : {"model.language_model.layers.0.self_attn.q_proj.weight",
                           "model.vision_tower.encoder.layers.x.mlp.up_proj.weight",
                           "model.vision_tower.encoder.layers.0", "model.audio_tower.layers.0.norm_out", ""})
    EXPECT_FALSE(gguf_tower_name(name)) << name;
  for (const char* name : {"v.blk..attn_q.weight", "v.blk.0.attn_q", "a.blk.0.attn_q.scale", "blk.0.attn_q.weight"})
    EXPECT_FALSE(canonical_gguf_tower_name(name)) << name;
}

}  // namespace
}  // namespace bezel::io
