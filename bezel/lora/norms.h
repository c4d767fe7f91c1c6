#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <torch/nn/module.h>

#include "bezel/nn/rms_norm.h"

namespace bezel::lora {

/// A norm whose weight is trained and saved beside LoRA (PEFT's modules_to_save). Those of the decoder alone are.
struct NormTarget {
  std::string name;  ///< canonical module name, such as "model.language_model.layers.0.input_layernorm"
  std::shared_ptr<nn::RmsNormImpl> norm;
  torch::Tensor weight{};  ///< float32 [H] in the checkpoint's form; undefined before it is attached

  bool is_of_decoder() const;
  std::int64_t parameters() const;
  /// Puts `weight` into the model, or takes it out.
  void put() const { norm->trained = weight; }
  void take_out() const { norm->trained.reset(); }
};

/// Every norm of a model, frozen or not, without `weight`.
std::vector<NormTarget> norms_of(const torch::nn::Module& model);

/// Whether modules_to_save means the norm by `asked`: as PEFT reads it, any of its names that ends so, "norm" as well
/// as "layers.0.input_layernorm".
bool is_norm_called(const std::string& norm, const std::string& asked);

/// Those of the decoder that `modules_to_save` names, in the model's order.
std::vector<NormTarget> select_norms(const torch::nn::Module& model, const std::vector<std::string>& modules_to_save);

/// Begins each as the checkpoint has it, and puts it into the model.
void attach_norms(std::vector<NormTarget>& norms);

/// Those that a model trains now.
std::vector<NormTarget> attached_norms(const torch::nn::Module& model);

}  // namespace bezel::lora
