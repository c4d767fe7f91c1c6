#pragma once

#include <string>
#include <vector>

namespace bezel::train {

/// What a run minimizes.
enum class ObjectiveKind { kSft, kDpo, kOrpo, kSimpo, kKto };

/// Settings of training by preference, in the words and with the defaults of TRL 1.16.
struct PreferenceConfig {
  ObjectiveKind objective = ObjectiveKind::kSft;
  std::vector<std::string> dpo_loss = {"sigmoid"};  ///< sigmoid, ipo, hinge, sft
  std::vector<double> loss_weights;                 ///< of dpo_loss; empty: 1 each
  double rpo_alpha = 0.0;                           ///< until the config is read: weight of sft in dpo_loss
  double beta = 0.1;
  double label_smoothing = 0.0;  ///< share of the pairs whose answers may be the wrong way round
  double simpo_gamma = 0.5;      ///< target margin of SimPO
  double cpo_alpha = 0.0;        ///< SimPO: weight of the chosen answers' loss
  double desirable_weight = 1.0;
  double undesirable_weight = 1.0;

  bool uses_preferences() const { return objective != ObjectiveKind::kSft; }
  /// Whether samples are pairs of answers.
  bool has_pairs() const { return uses_preferences() && !has_labels(); }
  /// Whether samples are single answers, each labelled good or bad.
  bool has_labels() const { return objective == ObjectiveKind::kKto; }
  /// Whether the loss needs log probabilities of the reference model.
  bool uses_reference() const { return objective == ObjectiveKind::kDpo || has_labels(); }
};

}  // namespace bezel::train
