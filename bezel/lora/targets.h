#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bezel/gemma4/parts.h"
#include "bezel/lora/config.h"
#include "bezel/lora/norms.h"
#include "bezel/lora/tables.h"
#include "bezel/nn/experts.h"
#include "bezel/nn/linear.h"

namespace bezel::lora {

/// A layer that is adapted, or is going to be; or a stack of experts.
struct Target {
  /// Canonical module name, such as "model.vision_tower.encoder.layers.0.self_attn.q_proj"; of a stack with the name of
  /// the matrix: "model.language_model.layers.0.experts.down_proj".
  std::string name;
  Tower tower = Tower::kLanguage;
  const gemma4::Part* part = nullptr;  ///< of known_parts()
  nn::Linear layer{nullptr};           ///< null for experts
  std::int64_t rank = 0;
  double alpha = 0;
  bool dora = false;
  std::shared_ptr<nn::StackedExperts> mixture{};  ///< of experts
  nn::ExpertStack* stack = nullptr;               ///< of `mixture`
  std::vector<std::int64_t> shape{};              ///< of the matrix: [out, in], of experts [E, out, in]

  std::optional<nn::Adapter>& adapter() const { return stack != nullptr ? stack->adapter : layer.ptr()->adapter; }
  /// Null before a checkpoint is loaded.
  const std::shared_ptr<const quant::Weight>& weight() const {
    return stack != nullptr ? stack->weight : layer->weight;
  }
  std::int64_t num_experts() const { return shape.size() == 3 ? shape[0] : 1; }
  std::int64_t in_features() const { return shape.back(); }
  std::int64_t out_features() const { return shape.end()[-2]; }
  /// Shapes of A and B: of experts, one rank for each.
  std::vector<std::int64_t> a_shape() const { return {num_experts() * rank, in_features()}; }
  std::vector<std::int64_t> b_shape() const { return {out_features(), rank * num_experts()}; }
  std::int64_t parameters() const {
    return num_experts() * rank * (in_features() + out_features()) + (dora ? out_features() : 0);
  }
};

/// A tensor of an adapter's file.
struct SavedTensor {
  std::string key;        ///< in the file
  torch::Tensor trained;  ///< what the optimizer moves
  torch::Tensor start{};  ///< of PiSSA: what stands behind it along `dim`
  std::int64_t dim = 0;

  /// As the file has it.
  torch::Tensor whole() const { return start.defined() ? at::cat({trained.detach(), start}, dim) : trained.detach(); }
  /// Replaces both by what a file has.
  void replace(const torch::Tensor& whole) const;
};

/// What a tower contributes.
struct TowerCount {
  Tower tower = Tower::kLanguage;
  std::int64_t layers = 0;
  std::int64_t parameters = 0;  ///< trainable
};

/// The layers that a config selects in a model, in the model's order.
struct Selection {
  std::vector<Target> targets;
  bool text_only = false;                ///< PEFT spells the modules `model.layers…`
  std::vector<TableTarget> tables = {};  ///< what is trained of embeddings and head
  std::vector<NormTarget> norms = {};    ///< what is trained of norms

  /// The module under which PEFT keeps the adapter of a target of these, in canonical spelling: its name, but for
  /// experts. See expert_keys.h.
  std::string key_module(const Target& target) const;
  /// One row for each tower that has a layer here.
  std::vector<TowerCount> counts() const;
  std::int64_t parameters() const;
  /// A and B, and of DoRA the magnitude, of every attached adapter, in order; what the optimizer moves.
  std::vector<torch::Tensor> tensors() const;
  /// The same with their names in a PEFT adapter file.
  std::vector<std::pair<std::string, torch::Tensor>> named_tensors() const;
  /// The same as the file holds them.
  std::vector<SavedTensor> saved_tensors() const;
};

/// What the model and the data are, as far as selection depends on it.
struct SelectOptions {
  bool text_only = false;                    ///< Gemma4ForCausalLM
  input::PerKind<bool> media{{true, true}};  ///< kinds that the data holds: `projectors` takes theirs
};

/// Every linear layer of a part of the model, in the model's order, without rank.
std::vector<Target> linear_layers(const torch::nn::Module& model);
/// Every stack of experts, likewise.
std::vector<Target> expert_stacks(const torch::nn::Module& model);
/// Both: everything that an adapter attaches to.
std::vector<Target> adaptable_layers(const torch::nn::Module& model);

/// `counts` with a last row of nothing for experts of `model` that stay frozen, so that a table shows it.
std::vector<TowerCount> with_frozen_experts(std::vector<TowerCount> counts, const torch::nn::Module& model);

/// Finds the layers to adapt by walking the model's module names; nothing is changed. Ranks and alphas come from the
/// config's patterns. Throws Error (kConfig), with the nearest names, when a name of `target_modules` or the regex
/// matches nothing in the chosen towers, when a chosen tower is not in the model, and when one ends up without a layer;
/// likewise for `target_parameters`, which choose stacks of experts, and for dropout beside these.
Selection select_targets(torch::nn::Module& model, const LoraConfig& config, const SelectOptions& options = {});

/// Gives every selected layer a fresh adapter on its weight's device, float32 and trainable, as init_lora_weights says:
/// A kaiming-uniform with a = sqrt(5), B zero. Draws from torch's default generator, in order. An adapter that was
/// there is replaced. What is resumed is filled afterwards, so PiSSA's directions are not looked for. Throws Error
/// (kConfig) for an orthogonal or PiSSA start over weights quantized, as PEFT does.
void attach(Selection& selection, const LoraConfig& config, bool is_resumed = false);

/// Whether a matrix is kept as numbers, not as codes.
bool is_dense(const quant::Weight& weight);

/// Takes the adapters of all layers off.
void detach_all(torch::nn::Module& model);

}  // namespace bezel::lora
