#include "bezel/lora/gguf.h"

#include <filesystem>
#include <map>

#include <gtest/gtest.h>

#include "bezel/error.h"
#include "bezel/io/json.h"
#include "bezel/io/tensor_io.h"
#include "support/temp_folder.h"

// tests/parity/gguf_adapter.py reads what is written, and runs it in llama.cpp.
namespace bezel::lora {
namespace {

using test::error_of;
using test::says;
using test::write_bytes;
using Tensors = std::map<std::string, torch::Tensor>;

class GgufAdapterFile : public testing::Test {
 protected:
  GgufAdapterFile() { std::filesystem::create_directories(path); }

  void write(const Tensors& tensors, const std::string& config = R"({"peft_type": "LORA", "r": 2, "lora_alpha": 4,
      "target_modules": ["q_proj"], "auto_mapping": {"base_model_class": "Gemma3ForCausalLM"}})") {
    write_bytes(path + "/adapter_config.json", config);
    io::save_safetensors(path + "/adapter_model.safetensors", {tensors.begin(), tensors.end()});
  }
  static Tensors layer(const std::string& module) {
    const std::string key = "base_model.model." + module;
    return {{key + ".lora_A.weight", torch::ones({2, 8})}, {key + ".lora_B.weight", torch::ones({6, 2})}};
  }
  std::string refusal() {
    return error_of([&] { write_gguf_adapter(path, "", out); });
  }

  test::TempFolder folder;
  std::string path = folder / "adapter", out = folder / "a.gguf";
};

TEST_F(GgufAdapterFile, TowersAndUnknownLayersStayBehindByName) {
  Tensors tensors = layer("model.language_model.layers.3.self_attn.q_proj");
  tensors.merge(layer("model.vision_tower.encoder.layers.0.self_attn.q_proj.linear"));
  tensors.merge(layer("model.language_model.per_layer_model_projection"));
  write(tensors, R"({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]})");
  const GgufAdapter made = write_gguf_adapter(path, "", out);
  EXPECT_EQ(made.architecture, "gemma4");  // by the names of its layers
  EXPECT_EQ(made.layers, 1);
  EXPECT_EQ(made.left_behind,
            (std::vector<std::string>{"model.language_model.per_layer_model_projection",
                                      "model.vision_tower.encoder.layers.0.self_attn.q_proj.linear"}));
  EXPECT_TRUE(std::filesystem::exists(out));
}

TEST_F(GgufAdapterFile, TheClassOfTheBaseDecides) {
  write(layer("model.layers.0.self_attn.q_proj"));
  EXPECT_EQ(write_gguf_adapter(path, "", out).architecture, "gemma3");
  EXPECT_EQ(write_gguf_adapter(path, "gemma4", out).architecture, "gemma4");
}

TEST_F(GgufAdapterFile, RefusesByName) {
  write(layer("model.layers.0.self_attn.q_proj"),
        R"({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]})");
  EXPECT_TRUE(says(refusal(), "name its base with --model"));
  write(layer("model.vision_tower.encoder.layers.0.self_attn.q_proj.linear"));
  EXPECT_TRUE(says(refusal(), "no layer of the language model is adapted"));
  Tensors tensors = layer("model.layers.0.self_attn.q_proj");
  tensors.at("base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight") = torch::ones({6, 3});
  write(tensors);
  EXPECT_TRUE(says(refusal(), "model.layers.0.self_attn.q_proj.lora_B.weight' [6, 3] are no [rank, in]"));
  tensors = layer("model.layers.0.self_attn.q_proj");
  tensors.at("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight")[1][2] = NAN;
  write(tensors);
  EXPECT_TRUE(says(refusal(), "lora_A.weight' holds NaN or Inf"));
  tensors.erase("base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight");
  write(tensors);
  EXPECT_TRUE(says(refusal(), "has no lora_B beside it"));
  EXPECT_FALSE(std::filesystem::exists(out));
}

}  // namespace
}  // namespace bezel::lora
