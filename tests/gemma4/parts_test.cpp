#include "bezel/gemma4/parts.h"

#include <gtest/gtest.h>

namespace bezel::gemma4 {
namespace {

using input::MediaKind;

ModelConfig three_towers() {
  ModelConfig config;
  config.text.hidden_size = 16;
  config.text.num_layers = 2;
  config.text.num_heads = 2;
  config.text.hidden_size_per_layer_input = 4;
  config.text.layers = {{.head_dim = 8, .intermediate_size = 24},
                        {.type = LayerType::kFull, .head_dim = 16, .intermediate_size = 48}};
  config.vision = VisionConfig{
      .hidden_size = 24, .intermediate_size = 32, .num_layers = 3, .num_heads = 3, .num_kv_heads = 3, .head_dim = 8};
  config.audio = AudioConfig{.hidden_size = 10, .num_layers = 1};
  return config;
}

std::vector<std::string_view> labels_of(const ModelConfig& config) {
  std::vector<std::string_view> labels;
  for (const Part& part : parts_of(config)) labels.push_back(part.label);
  return labels;
}

TEST(Parts, AreThoseThatTheConfigHas) {
  ModelConfig config = three_towers();
  EXPECT_EQ(labels_of(config),
            (std::vector<std::string_view>{"language", "vision", "vision projector", "audio", "audio projector"}));
  config.vision.reset();
  EXPECT_EQ(labels_of(config), (std::vector<std::string_view>{"language", "audio", "audio projector"}));
  config.audio.reset();
  EXPECT_EQ(labels_of(config), (std::vector<std::string_view>{"language"}));
}

TEST(Parts, KnowTheSizesOfEachLayer) {
  const std::vector<Part> parts = parts_of(three_towers());
  const Part& decoder = *find_part(parts, PartKind::kDecoder);
  ASSERT_EQ(decoder.layers.size(), 2u);
  EXPECT_EQ(decoder.hidden_size, 16);
  EXPECT_EQ(decoder.layers[0].input_width, 16 + 4);
  EXPECT_EQ(decoder.layers[0].attention, 2 * 8);
  EXPECT_EQ(decoder.layers[1].attention, 2 * 16);
  EXPECT_EQ(decoder.layers[1].feed_forward, 48);
  const Part& vision = *find_part(parts, PartKind::kEncoder, MediaKind::kImage);
  EXPECT_EQ(vision.layers.size(), 3u);
  EXPECT_EQ(vision.layers[2].feed_forward, 32);
  EXPECT_EQ(vision.layers[2].attention, 3 * 8);
  const Part& audio = *find_part(parts, PartKind::kEncoder, MediaKind::kAudio);
  EXPECT_EQ(audio.layers.size(), 1u);
  EXPECT_EQ(audio.hidden_size, 10);
  const Part& projector = *find_part(parts, PartKind::kProjector, MediaKind::kAudio);
  EXPECT_TRUE(projector.layers.empty());
  EXPECT_EQ(projector.tower, Tower::kProjectors);
  EXPECT_EQ(find_part(std::span(parts).first(1), PartKind::kEncoder), nullptr);
}

struct Expected {
  const char* canonical;
  const char* label;  // "": no part
  std::int64_t layer;
  const char* name;
};

TEST(Parts, NamesAreReadAsPartLayerAndRest) {
  for (const Expected& expected : {
           Expected{"model.language_model.layers.12.mlp.up_proj.weight", "language", 12, "mlp.up_proj.weight"},
           Expected{"model.language_model.embed_tokens", "language", -1, "embed_tokens"},
           Expected{"model.vision_tower.encoder.layers.3.self_attn.q_proj", "vision", 3, "self_attn.q_proj"},
           Expected{"model.vision_tower.patch_embedder.input_proj", "vision", -1, "patch_embedder.input_proj"},
           Expected{"model.audio_tower.layers.0.self_attn.post", "audio", 0, "self_attn.post"},
           Expected{"model.audio_tower.subsample_conv_projection.layer0.conv", "audio", -1,
                    "subsample_conv_projection.layer0.conv"},
           Expected{"model.embed_vision.embedding_projection", "vision projector", -1, "embedding_projection"},
           Expected{"model.embed_audio.embedding_projection", "audio projector", -1, "embedding_projection"},
           Expected{"model.embed_vision.patch_dense.weight", "vision", -1, "patch_dense.weight"},
           Expected{"model.embed_vision.pos_embedding", "vision", -1, "pos_embedding"},
           Expected{"model.embed_vision.patch_densely", "vision projector", -1, "patch_densely"},
           Expected{"model.embed_vision.multimodal_embedder.embedding_projection", "vision projector", -1,
                    "embedding_projection"},
           Expected{"lm_head", "", -1, "lm_head"},
           Expected{"model.vision_tower2.layers.0.x", "", -1, "model.vision_tower2.layers.0.x"},
           Expected{"model.language_model.layers.x.mlp", "language", -1, "layers.x.mlp"},
           Expected{"model.language_model.layers.7", "language", -1, "layers.7"},
           Expected{"model.language_model.layers.99999999999999999999.mlp", "language", -1,
                    "layers.99999999999999999999.mlp"},
           Expected{"", "", -1, ""},
       }) {
    const Place place = place_of(expected.canonical);
    EXPECT_EQ(place.part == nullptr ? "" : place.part->label, expected.label) << expected.canonical;
    EXPECT_EQ(place.layer, expected.layer) << expected.canonical;
    EXPECT_EQ(place.name, expected.name) << expected.canonical;
  }
}

TEST(Parts, TheUnifiedModelHasAnEmbedderAndTwoProjectors) {
  ModelConfig config = three_towers();
  config.family = Family::kGemma4Unified;
  const std::vector<Part> parts = parts_of(config);
  ASSERT_EQ(parts.size(), 4u);
  EXPECT_EQ(parts[1].module, "model.embed_vision");
  EXPECT_EQ(parts[1].tower, Tower::kVision);
  EXPECT_EQ(parts[2].module, "model.embed_vision.multimodal_embedder");
  EXPECT_EQ(parts[3].module, "model.embed_audio");
  EXPECT_EQ(parts[3].kind, PartKind::kProjector);
  EXPECT_EQ(known_part(Family::kGemma4Unified, PartKind::kEncoder, MediaKind::kAudio), nullptr);
  EXPECT_EQ(known_part(Family::kGemma4, PartKind::kEncoder, MediaKind::kImage)->module, "model.vision_tower");
}

TEST(Parts, AModelWithoutAPartHasNoNamesInIt) {
  ModelConfig config = three_towers();
  config.vision.reset();
  const std::vector<Part> parts = parts_of(config);
  EXPECT_EQ(place_of("model.vision_tower.patch_embedder.input_proj", parts).part, nullptr);
  EXPECT_EQ(place_of("model.audio_tower.output_proj", parts).part, &parts[1]);
}

}  // namespace
}  // namespace bezel::gemma4
