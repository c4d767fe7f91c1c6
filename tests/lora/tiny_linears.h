#pragma once

#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <torch/types.h>

#include "bezel/nn/linear.h"

namespace bezel::test {

/// A module tree with Gemma 4's names and tiny linear layers: two decoder layers, one layer in each tower, embedders.
/// Every layer is 6 -> 4 and has random weights.
class TinyLinears : public torch::nn::Module {
 public:
  explicit TinyLinears(const std::vector<std::string>& names = all_names()) {
    for (const std::string& name : names) add(name);
  }

  static std::vector<std::string> all_names() {
    std::vector<std::string> names;
    for (const char* layer : {"0", "1"})
      for (const char* part : {"self_attn.q_proj", "self_attn.v_proj", "mlp.up_proj", "per_layer_input_gate"})
        names.push_back(std::string("model.language_model.layers.") + layer + "." + part);
    for (const char* name :
         {"model.vision_tower.patch_embedder.input_proj", "model.vision_tower.encoder.layers.0.self_attn.q_proj",
          "model.audio_tower.layers.0.self_attn.q_proj", "model.audio_tower.layers.0.self_attn.relative_k_proj",
          "model.audio_tower.layers.0.feed_forward1.ffw_layer_1", "model.embed_vision.embedding_projection",
          "model.embed_audio.embedding_projection", "lm_head"})
      names.push_back(name);
    return names;
  }

  nn::Linear layer(const std::string& name) {
    for (const auto& item : named_modules("", /*include_self=*/false))
      if (item.key() == name) return nn::Linear(std::dynamic_pointer_cast<nn::LinearImpl>(item.value()));
    throw std::runtime_error("no layer " + name);
  }

 private:
  struct Folder : torch::nn::Module {};

  void add(const std::string& name) {
    torch::nn::Module* parent = this;
    std::size_t begin = 0;
    for (std::size_t dot = name.find('.'); dot != std::string::npos; begin = dot + 1, dot = name.find('.', begin)) {
      const std::string part = name.substr(begin, dot - begin);
      const auto children = parent->named_children();
      const auto* child = children.find(part);
      parent = child != nullptr ? child->get() : parent->register_module(part, std::make_shared<Folder>()).get();
    }
    const auto role = name == "lm_head" ? nn::MatrixRole::kHead : nn::MatrixRole::kLinear;
    auto linear = std::make_shared<nn::LinearImpl>(6, 4, nn::LinearImpl::Options{.role = role});
    linear->weight = quant::dense_weight(torch::randn({4, 6}), name);
    parent->register_module(name.substr(begin), linear);
  }
};

}  // namespace bezel::test
