#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bezel/train/loraplus.h"

namespace bezel::train {

/// The formula that moves the adapter; each is that of a named source.
enum class OptimizerKind {
  kAdamW,      ///< torch.optim.AdamW
  kAdamW8bit,  ///< bitsandbytes' AdamW8bit: moments as codes of 8 bits, in blocks of 256
  kAdafactor,  ///< transformers' Adafactor as its Trainer makes it: the learning rate is the schedule's
  kLion,       ///< Chen et al., "Symbolic Discovery of Optimization Algorithms"; bitsandbytes' Lion
  kMuon,       ///< torch.optim.Muon for the matrices A and B, AdamW for all else
};

/// "adamw", "adamw_8bit" …, in the order of OptimizerKind.
std::span<const std::string_view> optimizer_names();

/// What an optimizer takes beside betas, epsilon and weight decay: the key optim_args, by the names of its source.
/// What is not given has the source's default.
struct OptimizerOptions {
  std::optional<std::int64_t> min_8bit_size = {};  ///< smaller parameters keep float32 moments; 4096
  std::optional<double> clip_threshold = {};       ///< of the root mean square of an update; 1
  std::optional<double> decay_rate = {};           ///< exponent of the step in the second moment's decay; -0.8
  std::optional<double> beta1 = {};                ///< decay of Adafactor's first moment; without it no moment is kept
  std::optional<double> momentum = {};             ///< 0.95
  std::optional<bool> nesterov = {};               ///< true
  std::optional<std::int64_t> ns_steps = {};       ///< Newton-Schulz iterations; 5
  std::string adjust_lr_fn = {};                   ///< "match_rms_adamw" (default) or "original"

  bool operator==(const OptimizerOptions&) const = default;
};

/// Names of the options that `kind` takes.
std::span<const std::string_view> options_of(OptimizerKind kind);

/// Parameters with a learning rate of their own; it follows the schedule as the run's does. As axolotl's lr_groups.
struct RateGroup {
  std::string name;
  std::vector<std::string> modules;  ///< parts of parameter names; one of them is enough
  double learning_rate = 0.0;        ///< after warm-up

  bool operator==(const RateGroup&) const = default;
};

struct OptimizerSettings {
  OptimizerKind kind = OptimizerKind::kAdamW;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.0;  ///< decoupled: times the learning rate; not of norms and biases
  OptimizerOptions options = {};
  double learning_rate = 1.0;  ///< after warm-up; what the rates of `groups` are relative to
  std::vector<RateGroup> groups = {};
  LoraPlus loraplus = {};  ///< which tensors have another rate than A's
};

/// Whether weight decay applies to the parameter: not where the name is that of a norm or a bias. Reference:
/// transformers' Trainer.get_decay_parameter_names.
bool decays(std::string_view parameter);

}  // namespace bezel::train
