#include "bezel/gemma4/orbax_arrays.h"

#include <algorithm>
#include <set>

#include <gtest/gtest.h>

#include "bezel/gemma4/orbax_map.h"

namespace bezel::gemma4 {
namespace {

struct Released {
  const char* name;
  std::int64_t layers, width, mlp, heads, kv_heads, full_kv_heads, shared, per_layer, experts;
  bool clipped;             ///< E2B and E4B: the smaller vision tower
  std::int64_t num_arrays;  ///< of text and vision, as google-deepmind/gemma's modules have them (Flax eval_shape)
  std::int64_t num_elements;
};

// The modules' arrays leave the projection of images out.
constexpr Released kReleased[] = {
    {"E2B", 35, 1536, 6144, 8, 1, 0, 20, 256, 0, true, 563, 4'814'814'819},
    {"E4B", 42, 2560, 10240, 8, 2, 0, 18, 256, 0, true, 668, 7'685'433'962},
    {"26B-A4B", 30, 2816, 2112, 16, 8, 2, 0, 0, 128, false, 617, 25'802'692'174},
    {"31B", 60, 5376, 21504, 32, 16, 4, 0, 0, 0, false, 737, 31'266'895'724},
};

ModelConfig config_of(const Released& size) {
  io::Json text = {{"vocab_size", 262144},
                   {"vocab_size_per_layer_input", 262144},
                   {"hidden_size", size.width},
                   {"intermediate_size", size.mlp},
                   {"num_hidden_layers", size.layers},
                   {"num_attention_heads", size.heads},
                   {"num_key_value_heads", size.kv_heads},
                   {"head_dim", 256},
                   {"global_head_dim", 512},
                   {"hidden_size_per_layer_input", size.per_layer},
                   {"num_kv_shared_layers", size.shared},
                   {"use_double_wide_mlp", size.layers == 35},
                   {"attention_k_eq_v", size.full_kv_heads > 0},
                   {"enable_moe_block", size.experts > 0}};
  if (size.full_kv_heads > 0) text["num_global_key_value_heads"] = size.full_kv_heads;
  if (size.experts > 0)
    text.update({{"num_experts", size.experts}, {"top_k_experts", 8}, {"moe_intermediate_size", 704}});
  for (std::int64_t i = 0; i < size.layers; ++i) {
    const std::int64_t period = size.layers == 35 ? 5 : 6;
    text["layer_types"].push_back(i % period == period - 1 ? "full_attention" : "sliding_attention");
  }
  const bool small = size.clipped;
  const io::Json vision = {{"hidden_size", small ? 768 : 1152},
                           {"intermediate_size", small ? 3072 : 4304},
                           {"num_hidden_layers", small ? 16 : 27},
                           {"num_attention_heads", small ? 12 : 16},
                           {"num_key_value_heads", small ? 12 : 16},
                           {"head_dim", small ? 64 : 72},
                           {"patch_size", 16},
                           {"position_embedding_size", 10240},
                           {"use_clipped_linears", small},
                           {"standardize", !small}};
  const io::Json json = {{"model_type", "gemma4"},   {"architectures", {"Gemma4ForConditionalGeneration"}},
                         {"image_token_id", 258880}, {"audio_token_id", 258881},
                         {"text_config", text},      {"vision_config", vision}};
  return read_model_config(io::JsonView(json, "config.json"));
}

std::int64_t elements(const std::vector<std::int64_t>& shape) {
  std::int64_t count = 1;
  for (const std::int64_t size : shape) count *= size;
  return count;
}

TEST(OrbaxArrays, AreThoseOfTheReleasedSizes) {
  for (const Released& size : kReleased) {
    std::int64_t num_arrays = 0, num_elements = 0;
    for (const OrbaxArray& array : orbax_arrays(config_of(size))) {
      if (array.name.text() == "embedder.mm_input_projection.w") continue;
      ++num_arrays;
      num_elements += elements(array.shape);
    }
    EXPECT_EQ(num_arrays, size.num_arrays) << size.name;
    EXPECT_EQ(num_elements, size.num_elements) << size.name;
  }
}

// What is written, the map reads: every array, no tensor from two arrays, every element of an array in a tensor.
TEST(OrbaxArrays, TheMapKnowsAllOfThem) {
  for (const Released& size : kReleased) {
    ModelConfig config = config_of(size);
    config.audio.emplace();
    const std::vector<OrbaxArray> arrays = orbax_arrays(config);
    std::vector<std::string> names;
    for (const OrbaxArray& array : arrays) names.push_back(normal_orbax_name(array.name.path));
    const OrbaxMap map(names);
    std::set<std::string> seen;
    for (std::size_t i = 0; i < arrays.size(); ++i) {
      const auto tensors = map.tensors_of(names[i], arrays[i].shape);
      ASSERT_TRUE(tensors) << size.name << " " << names[i];
      std::int64_t held = 0;
      for (const OrbaxTensor& tensor : *tensors) {
        EXPECT_TRUE(seen.insert(tensor.name).second) << tensor.name;
        held += elements(tensor.shape);
      }
      const bool bound = names[i].find(".clip_") != std::string::npos;  // one for two layers
      EXPECT_TRUE(bound ? held >= elements(arrays[i].shape) : held == elements(arrays[i].shape)) << names[i];
    }
  }
}

}  // namespace
}  // namespace bezel::gemma4
