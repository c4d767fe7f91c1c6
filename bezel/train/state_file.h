#pragma once

#include <map>
#include <string>

#include <torch/types.h>

namespace bezel::train {

/// A safetensors file of a checkpoint whose tensors are taken out one by one, so that finish() finds what nobody took.
class StateFile {
 public:
  /// Throws Error when `path` cannot be read as safetensors.
  explicit StateFile(std::string path);

  bool has(const std::string& key) const { return tensors_.contains(key); }
  /// A copy on `device`: the file is mapped read-only, and training writes. Throws Error naming the file and the key
  /// when the tensor is missing or of another shape or dtype.
  torch::Tensor take(const std::string& key, torch::IntArrayRef shape, torch::ScalarType dtype, torch::Device device);
  /// A float32 tensor of the shape and on the device of `like`.
  torch::Tensor take_like(const std::string& key, const torch::Tensor& like);
  /// Throws Error naming the first tensor that was not taken.
  void finish() const;

 private:
  std::string path_;
  std::map<std::string, torch::Tensor> tensors_;
};

}  // namespace bezel::train
