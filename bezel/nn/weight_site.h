#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bezel/nn/experts.h"
#include "bezel/nn/linear.h"
#include "bezel/nn/module.h"

/// The walk over a module tree; everything that looks for layers or tensors by name uses it.
namespace bezel::nn {

/// Calls `visit` with each module below `root` that takes tensors from the checkpoint, and its canonical name, in the
/// order of the module tree.
void for_each_module(const torch::nn::Module& root,
                     const std::function<void(const std::string& name, Module& module)>& visit);

/// A frozen matrix of a model: a place where an adapter attaches, or could. Valid as long as the model.
struct WeightSite {
  std::string module;                 ///< canonical name of its module
  const Slot* slot = nullptr;         ///< shape, role and whether it may be quantized
  LinearImpl* layer = nullptr;        ///< of kLinear and kHead
  StackedExperts* mixture = nullptr;  ///< of kExperts

  /// Canonical name: that of the module, and of experts, whose module holds several, with the name of the matrix.
  std::string name() const { return slot->role == MatrixRole::kExperts ? module + "." + slot->name : module; }
  MatrixRole role() const { return slot->role; }
  /// Null before a checkpoint is loaded.
  const std::shared_ptr<const quant::Weight>& weight() const { return *slot->weight; }
  /// The slot of its adapter; null where no adapter can attach.
  std::optional<Adapter>* adapter() const;
};

/// Every matrix below `root`, in the order of the module tree.
std::vector<WeightSite> weight_sites(const torch::nn::Module& root);

/// Those of linear layers, the head left out: where adapters attach today.
std::vector<WeightSite> linear_sites(const torch::nn::Module& root);

/// Why no adapter attaches to a matrix of that role, for messages: "is an embedding table"; "" for linear layers.
std::string_view refusal_of(MatrixRole role);

/// The trainable tensors of every adapter in `module` and below, in the order of the module tree, then those of norms.
std::vector<torch::Tensor> adapter_tensors(const torch::nn::Module& module);

/// The frozen matrices of every linear layer in `module` and below, in the order of the module tree.
std::vector<std::shared_ptr<const quant::Weight>> linear_weights(const torch::nn::Module& module);

}  // namespace bezel::nn
