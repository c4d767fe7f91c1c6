#include "support/tiny_model.h"

#include <fstream>

#include <ATen/ATen.h>
#include <torch/types.h>

#include "bezel/gemma4/load.h"
#include "bezel/io/tensor_io.h"
#include "bezel/nn/module.h"

namespace bezel::test {

using torch::Tensor;

std::string tiny_config_text() {
  return R"({
  "model_type": "gemma4", "architectures": ["Gemma4ForConditionalGeneration"], "dtype": "float32",
  "image_token_id": 60, "audio_token_id": 61, "video_token_id": 62, "an_unknown_key": [1, {"x": null}],
  "text_config": {"model_type": "gemma4_text", "vocab_size": 64, "vocab_size_per_layer_input": 64, "hidden_size": 16,
    "intermediate_size": 24, "num_hidden_layers": 4, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
    "global_head_dim": 16, "num_global_key_value_heads": null, "sliding_window": 6, "num_kv_shared_layers": 2,
    "use_double_wide_mlp": true, "hidden_size_per_layer_input": 4, "final_logit_softcapping": 30.0, "pad_token_id": 0,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]},
  "vision_config": {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 3,
    "num_key_value_heads": 3, "head_dim": 8, "patch_size": 4, "position_embedding_size": 32, "use_clipped_linears": true,
    "rope_parameters": {"rope_type": "default", "rope_theta": 100.0}},
  "audio_config": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "subsampling_conv_channels": [128, 2], "output_proj_dims": 20, "use_clipped_linears": true}
})";
}

gemma4::ModelConfig tiny_config() {
  const io::Json json = io::parse_json(tiny_config_text(), "config.json");
  return gemma4::read_model_config(io::JsonView(json, "config.json"));
}

std::string tiny_mixture_text() {
  std::string config = tiny_config_text();
  const std::string text = R"("model_type": "gemma4_text",)";
  config.insert(config.find(text),
                R"("enable_moe_block": true, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 8, )");
  return config;
}

void write_tiny_checkpoint(const std::string& folder, bool nested) {
  write_tiny_checkpoint(folder, nested, tiny_config_text());
}

void write_tiny_checkpoint(const std::string& folder, bool nested, const std::string& config_text) {
  torch::manual_seed(11);
  std::ofstream(folder + "/config.json") << config_text;
  const auto layout = nested ? io::KeyLayout::kNested : io::KeyLayout::kFlat;
  std::vector<std::pair<std::string, Tensor>> tensors;
  const io::Json json = io::parse_json(config_text, "config.json");
  const auto model = gemma4::meta_model(gemma4::read_model_config(io::JsonView(json, "config.json")), torch::kFloat);
  for (const auto& item : model->named_modules()) {
    const auto* module = dynamic_cast<const nn::Module*>(item.value().get());
    if (module == nullptr) continue;
    for (const nn::Slot& slot : module->slots()) {
      Tensor value = slot.shape.size() < 2
                         ? 1 + 0.2 * torch::randn(slot.shape)
                         : torch::randn(slot.shape) / std::sqrt(static_cast<double>(slot.shape.back()));
      if (slot.kind == nn::SlotKind::kClipBound)
        value = torch::tensor(slot.name.find("min") == std::string::npos ? 0.9f : -1.0f);
      tensors.emplace_back(io::stored_tensor_name(item.key() + "." + slot.name, layout), value);
    }
  }
  if (nested)
    for (const char* part : {"k_proj", "v_proj"})
      tensors.emplace_back(std::string("model.language_model.layers.2.self_attn.") + part + ".weight",
                           torch::randn({8, 16}));
  io::save_safetensors(folder + "/model.safetensors", tensors);
}

input::RawInputs tiny_inputs() {
  torch::manual_seed(12);
  input::RawInputs raw;
  // Three soft tokens of audio: frames 0 … 11 after two halvings.
  raw.input_ids = torch::tensor({{2, 5, 60, 60, 7, 61, 61, 61, 9, 10, 11, 12}});
  raw.labels = torch::full({1, 12}, input::kIgnoreLabel, at::kLong);
  raw.labels.narrow(1, 9, 3).copy_(raw.input_ids.narrow(1, 9, 3));
  raw.pixel_values = torch::rand({1, 18, 48});
  const Tensor index = torch::arange(18, at::kLong);
  raw.image_position_ids = torch::stack({index.remainder(6), index.div(6, "floor")}, -1).unsqueeze(0);
  raw.input_features = torch::randn({1, 12, 128});
  raw.input_features_mask = torch::ones({1, 12}, at::kBool);
  return raw;
}

input::Batch tiny_batch() { return tiny_batch(tiny_inputs()); }

input::Batch tiny_batch(const input::RawInputs& raw) { return input::make_batch(raw, {{{60, 61, 62}}}, 3); }

}  // namespace bezel::test
