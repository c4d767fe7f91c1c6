#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <torch/nn/module.h>

#include "bezel/quant/weight.h"

namespace bezel::nn {

/// What a checkpoint tensor is to the module that holds it, which decides the dtype it is kept in.
enum class SlotKind {
  kMatrix,     ///< kept as stored, behind quant::Weight
  kVector,     ///< small or convolutional: kept in the compute dtype
  kClipBound,  ///< a 0-d clip bound; may be missing
};

/// What a matrix is to the model.
enum class MatrixRole {
  kLinear,     ///< weight of a linear layer: adapters attach here
  kHead,       ///< the output embedding where it is not tied
  kEmbedding,  ///< a table that rows are looked up in
  kExperts,    ///< a stack of experts [E, out, in]
};

/// One tensor that a module takes from the checkpoint.
struct Slot {
  std::string name;                 ///< last part of the checkpoint key, such as "weight"
  std::vector<std::int64_t> shape;  ///< as the config says it must be
  SlotKind kind = SlotKind::kVector;
  std::function<void(torch::Tensor)> assign;                                ///< kVector, kClipBound
  std::function<void(std::shared_ptr<const quant::Weight>)> assign_weight;  ///< kMatrix
  bool quantizable = false;                                                 ///< kMatrix: may be kept quantized
  bool wide = false;                                                        ///< kVector: kept in float32
  MatrixRole role = MatrixRole::kLinear;                                    ///< kMatrix
  const std::shared_ptr<const quant::Weight>* weight = nullptr;             ///< kMatrix: what was assigned, or null
};

/// Base of modules with frozen tensors: they list what they expect, and loading is a walk over the module tree.
class Module : public torch::nn::Module {
 public:
  const std::vector<Slot>& slots() const { return slots_; }

 protected:
  /// Expects tensor `name` of `shape` and puts it into `member`, which must belong to this module.
  void expect(std::string name, std::vector<std::int64_t> shape, torch::Tensor& member) {
    add_slot({std::move(name), std::move(shape), SlotKind::kVector,
              [&member](torch::Tensor tensor) { member = std::move(tensor); }, nullptr, false});
  }
  /// Expects matrix `name` of `shape`, however it is stored, and puts it into `member`.
  void expect(std::string name, std::vector<std::int64_t> shape, std::shared_ptr<const quant::Weight>& member,
              MatrixRole role, bool quantizable) {
    add_slot({.name = std::move(name),
              .shape = std::move(shape),
              .kind = SlotKind::kMatrix,
              .assign = nullptr,
              .assign_weight = [&member](std::shared_ptr<const quant::Weight> weight) { member = std::move(weight); },
              .quantizable = quantizable,
              .role = role,
              .weight = &member});
  }
  void add_slot(Slot slot) { slots_.push_back(std::move(slot)); }

 private:
  std::vector<Slot> slots_;
};

}  // namespace bezel::nn
