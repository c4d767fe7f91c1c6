#pragma once

#include <torch/types.h>

#include "bezel/train/metrics.h"
#include "bezel/train/preference_config.h"

namespace bezel::train {

/// What a batch of n pairs comes to. Log probabilities are sums over the tokens of an answer, float32 [n].
struct PairScores {
  torch::Tensor chosen, rejected;                      ///< of the model, with a graph while gradients are enabled
  torch::Tensor reference_chosen, reference_rejected;  ///< undefined where the objective has no reference
  torch::Tensor chosen_tokens, rejected_tokens;        ///< float32 [n], how many tokens the answers have
  torch::Tensor nll;                                   ///< mean over the chosen answers' labels of -log p, a scalar
};

/// What a batch of labelled answers comes to: n answers, and the divergence as n mismatched ones show it.
struct LabelledScores {
  torch::Tensor logps, reference;                  ///< float32 [n]
  torch::Tensor is_desirable;                      ///< bool [n]
  torch::Tensor mismatched, mismatched_reference;  ///< float32 [n]
};

struct PreferenceLoss {
  torch::Tensor sum;  ///< over pairs, or over labelled answers; a float32 scalar
  Metrics metrics;
};

/// The loss of pairs by dpo, orpo or simpo. `preference.objective` says which; what is a mean over the tokens of a
/// batch (nll) counts once for each pair. References, of TRL 1.16.0: DPOTrainer._compute_loss;
/// ORPOTrainer.odds_ratio_loss and get_batch_loss_metrics; CPOTrainer.cpo_loss. With label_smoothing DPO's sigmoid is
/// the conservative form of earlier versions and of CPOTrainer.
PreferenceLoss pair_loss(const PairScores& scores, const PreferenceConfig& preference);

/// Reference: KTOTrainer._compute_loss.
PreferenceLoss labelled_loss(const LabelledScores& scores, const PreferenceConfig& preference);

}  // namespace bezel::train
