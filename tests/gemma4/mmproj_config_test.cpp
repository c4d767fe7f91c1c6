#include "bezel/gemma4/mmproj_config.h"

#include <functional>

#include <gtest/gtest.h>

#include "tests/support/gguf_bytes.h"
#include "tests/support/temp_folder.h"

// tests/parity/mmproj_in.py computes with such files.
namespace bezel::gemma4 {
namespace {

using test::error_of;
using test::gguf_text;
using test::GgufBytes;
using test::raw;
using test::says;
using test::write_bytes;

constexpr std::uint32_t kF32 = 6, kBool = 7, kString = 8;

GgufBytes language_model(const std::string& image_word = "<|image|>") {
  GgufBytes bytes;
  bytes.key("general.architecture", "gemma4").key("gemma4.embedding_length", 8).key("gemma4.block_count", 1);
  for (const char* name : {"context_length", "feed_forward_length", "attention.sliding_window", "attention.key_length"})
    bytes.key(std::string("gemma4.") + name, 8);
  bytes.key("gemma4.attention.head_count", 1).key("gemma4.attention.head_count_kv", 1);
  bytes.list("gemma4.attention.sliding_window_pattern", kBool, 1, "\1");
  bytes.list("tokenizer.ggml.tokens", kString, 3, gguf_text("a") + gguf_text("<|audio|>") + gguf_text(image_word));
  bytes.tensor("token_embd.weight", {8, 3}, 0, std::string(96, '\0'));
  bytes.tensor("blk.0.attn_k.weight", {8}, 0, std::string(32, '\0'));
  bytes.tensor("rope_freqs.weight", {4}, 0, raw(1.0f) + raw(1.0f) + raw(1.0f) + raw(1.0f));
  return bytes;
}

void add_tensor(GgufBytes& bytes, const std::string& name, const std::vector<std::uint64_t>& dims) {
  std::uint64_t elements = 1;
  for (const std::uint64_t dim : dims) elements *= dim;
  bytes.tensor(name, dims, 0, std::string(4 * elements, '\0'));
}

void add_vision(GgufBytes& bytes, std::uint32_t heads = 4) {
  bytes.key("clip.has_vision_encoder", kBool, raw<std::uint8_t>(1));
  bytes.key("clip.vision.projector_type", "gemma4v").key("clip.vision.projection_dim", 8);
  bytes.key("clip.vision.embedding_length", 32).key("clip.vision.feed_forward_length", 40);
  bytes.key("clip.vision.block_count", 2).key("clip.vision.attention.head_count", heads);
  bytes.key("clip.vision.patch_size", 4).key("clip.vision.attention.layer_norm_epsilon", kF32, raw(1e-5f));
  add_tensor(bytes, "v.blk.0.attn_q_norm.weight", {8});
  add_tensor(bytes, "v.blk.0.attn_k.weight", {32, 16});
  add_tensor(bytes, "v.position_embd.weight", {32, 5, 2});
}

void add_audio(GgufBytes& bytes) {
  bytes.key("clip.has_audio_encoder", kBool, raw<std::uint8_t>(1));
  bytes.key("clip.audio.projector_type", "gemma4a").key("clip.audio.projection_dim", 8);
  bytes.key("clip.audio.embedding_length", 16).key("clip.audio.block_count", 3);
  bytes.key("clip.audio.attention.head_count", 2);
  add_tensor(bytes, "a.conv1d.0.weight", {3, 3, 1, 6});
  add_tensor(bytes, "a.conv1d.1.weight", {3, 3, 6, 2});
  add_tensor(bytes, "a.blk.0.conv_dw.weight", {7, 16});
  add_tensor(bytes, "a.blk.0.attn_q.input_min", {1});
  add_tensor(bytes, "a.pre_encode.out.weight", {16, 12});
}

/// The 12B's.
void add_embedders(GgufBytes& bytes, const std::string& audio_type = "gemma4ua") {
  bytes.key("clip.has_vision_encoder", kBool, raw<std::uint8_t>(1));
  bytes.key("clip.has_audio_encoder", kBool, raw<std::uint8_t>(1));
  bytes.key("clip.vision.projector_type", "gemma4uv").key("clip.vision.projection_dim", 8);
  bytes.key("clip.vision.embedding_length", 32).key("clip.vision.block_count", 0).key("clip.vision.patch_size", 4);
  bytes.key("clip.vision.attention.layer_norm_epsilon", kF32, raw(1e-5f));
  bytes.key("clip.audio.projector_type", audio_type).key("clip.audio.projection_dim", 8);
  bytes.key("clip.audio.embedding_length", 16).key("clip.audio.block_count", 0);
  add_tensor(bytes, "v.position_embd.weight", {32, 5, 2});
}

ModelConfig read(const GgufBytes& towers, const GgufBytes& model = language_model()) {
  const test::TempFolder folder;
  write_bytes(folder / "m.gguf", model.bytes());
  write_bytes(folder / "mmproj-m.gguf", towers.bytes());
  return read_model_config(folder / "m.gguf");
}

TEST(MmprojConfig, MetadataAndTensorsSayWhatTheTowersAre) {
  GgufBytes towers;
  add_vision(towers);
  add_audio(towers);
  const ModelConfig config = read(towers);
  EXPECT_FALSE(config.text_only);
  EXPECT_TRUE(config.text.bidirectional_vision);  // no per-layer embeddings
  EXPECT_EQ(config.placeholder_ids[input::MediaKind::kImage], 2);
  EXPECT_EQ(config.placeholder_ids[input::MediaKind::kAudio], 1);
  ASSERT_TRUE(config.vision && config.audio);
  EXPECT_EQ(config.vision->hidden_size, 32);
  EXPECT_EQ(config.vision->intermediate_size, 40);
  EXPECT_EQ(config.vision->num_layers, 2);
  EXPECT_EQ(config.vision->num_heads, 4);
  EXPECT_EQ(config.vision->num_kv_heads, 2);
  EXPECT_EQ(config.vision->head_dim, 8);
  EXPECT_EQ(config.vision->patch_size, 4);
  EXPECT_EQ(config.vision->position_embedding_size, 5);
  EXPECT_FLOAT_EQ(static_cast<float>(config.vision->rms_norm_eps), 1e-5f);
  EXPECT_FALSE(config.vision->use_clipped_linears);
  EXPECT_FALSE(config.vision->standardize);
  EXPECT_EQ(config.audio->hidden_size, 16);
  EXPECT_EQ(config.audio->num_layers, 3);
  EXPECT_EQ(config.audio->num_heads, 2);
  EXPECT_EQ(config.audio->subsampling_channels[0], 6);
  EXPECT_EQ(config.audio->subsampling_channels[1], 2);
  EXPECT_EQ(config.audio->conv_kernel_size, 7);
  EXPECT_EQ(config.audio->output_proj_dims, 12);
  EXPECT_TRUE(config.audio->use_clipped_linears);
}

TEST(MmprojConfig, EmbeddersMakeAUnifiedModel) {
  GgufBytes towers;
  add_embedders(towers);
  ModelConfig config = read(towers);
  EXPECT_EQ(config.architecture(), "Gemma4UnifiedForConditionalGeneration");
  EXPECT_TRUE(config.has_image_attention());
  EXPECT_EQ(config.text.image_attention, ImageAttention::kAllLayers);
  EXPECT_EQ(config.placeholder_ids[input::MediaKind::kImage], 2);
  EXPECT_EQ(config.placeholder_ids[input::MediaKind::kAudio], 1);
  ASSERT_TRUE(config.vision && config.audio);
  EXPECT_EQ(config.vision->num_layers, 0);
  EXPECT_EQ(config.vision->hidden_size, 32);
  EXPECT_EQ(config.vision->patch_size, 12);  // three of the file's along a side where it does not say
  EXPECT_EQ(config.vision->pooling_kernel_size, 1);
  EXPECT_EQ(config.vision->position_embedding_size, 5);
  EXPECT_FLOAT_EQ(static_cast<float>(config.vision->rms_norm_eps), 1e-5f);
  EXPECT_EQ(config.audio->num_layers, 0);
  EXPECT_EQ(config.audio->hidden_size, 16);
  EXPECT_FALSE(config.audio->use_clipped_linears);
  towers.key("clip.vision.projector.scale_factor", 2);
  EXPECT_EQ(read(towers).vision->patch_size, 8);
}

TEST(MmprojConfig, OneTowerIsEnough) {
  GgufBytes towers;
  add_vision(towers);
  const ModelConfig config = read(towers);
  EXPECT_TRUE(config.vision);
  EXPECT_FALSE(config.audio);
}

TEST(MmprojConfig, RefusesByNameWhatCannotBe) {
  const auto complaint = [](const std::function<void(GgufBytes&)>& add, const GgufBytes& model = language_model()) {
    GgufBytes towers;
    add(towers);
    return error_of([&] { read(towers, model); });
  };
  EXPECT_TRUE(says(complaint([](GgufBytes& to) { add_embedders(to, "gemma4a"); }), "clip.audio.projector_type"));
  EXPECT_TRUE(says(complaint([](GgufBytes& to) { add_embedders(to, "gemma4a"); }), "expected 'gemma4ua'"));
  EXPECT_TRUE(says(complaint([](GgufBytes& to) { add_vision(to, 3); }), "clip.vision.attention.head_count"));
  EXPECT_TRUE(says(complaint([](GgufBytes& to) { add_vision(to); }, language_model("x")), "no word '<|image|>'"));
  EXPECT_TRUE(
      says(complaint([](GgufBytes& to) {
             to.key("clip.has_vision_encoder", kBool, raw<std::uint8_t>(1)).key("clip.vision.projection_dim", 8);
             to.key("clip.vision.projector_type", "gemma4v");
           }),
           "clip.vision.embedding_length"));
}

}  // namespace
}  // namespace bezel::gemma4
