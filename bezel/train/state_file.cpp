#include "bezel/train/state_file.h"

#include <utility>

#include <ATen/ATen.h>

#include "bezel/error.h"
#include "bezel/io/tensor_io.h"

namespace bezel::train {

using torch::Tensor;

StateFile::StateFile(std::string path) : path_(std::move(path)), tensors_(io::load_safetensors(path_)) {}

Tensor StateFile::take(const std::string& key, torch::IntArrayRef shape, torch::ScalarType dtype,
                       torch::Device device) {
  const auto found = tensors_.find(key);
  if (found == tensors_.end()) throw Error(path_, ": tensor '", key, "' is missing");
  if (found->second.sizes() != shape || found->second.scalar_type() != dtype)
    throw Error(path_, ": tensor '", key, "' is ", found->second.scalar_type(), " ", found->second.sizes(),
                ", this run has ", dtype, " ", shape);
  Tensor copy = found->second.to(device, dtype, /*non_blocking=*/false, /*copy=*/true);
  tensors_.erase(found);
  return copy;
}

Tensor StateFile::take_like(const std::string& key, const Tensor& like) {
  return take(key, like.sizes(), torch::kFloat, like.device());
}

void StateFile::finish() const {
  if (tensors_.empty()) return;
  throw Error(path_, ": tensor '", tensors_.begin()->first, "' fits nothing that this run adapts");
}

}  // namespace bezel::train
