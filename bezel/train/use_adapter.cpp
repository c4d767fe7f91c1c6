#include "bezel/train/use_adapter.h"

#include "bezel/error.h"

namespace bezel::train {

lora::LoadedAdapter use_adapter(gemma4::Model& model, const std::string& folder) {
  lora::LoadedAdapter adapter = lora::load_adapter(*model, folder, model->config().text_only);
  if (adapter.image_attention.empty()) return adapter;
  gemma4::ModelConfig config = model->config();
  try {
    gemma4::choose_image_attention(config, adapter.image_attention);
  } catch (const Error& error) {
    throw Error(folder, "/adapter_config.json: auto_mapping.", error.what());
  }
  model->set_image_attention(config.text.image_attention);
  return adapter;
}

}  // namespace bezel::train
