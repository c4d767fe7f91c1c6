#pragma once

#include "bezel/train/objective.h"
#include "bezel/train/preference_config.h"
#include "bezel/train/reference_logps.h"

namespace bezel::train {

/// Log probabilities of the N answers in a batch, float32, with a graph while gradients are enabled: sums over the
/// labels that are the answer's.
struct AnswerLogps {
  torch::Tensor sums;    ///< [N]
  torch::Tensor tokens;  ///< [N], how many labels each has
  torch::Tensor nll;  ///< a scalar: mean of -log p over all labels of the chosen answers and their prompts, undefined
                      ///< without any
};
/// `batch` is on the model's device and has preferences; `observer` is called after each phase.
AnswerLogps answer_logps(gemma4::Model& model, const data::Batch& batch, const gemma4::PhaseObserver& observer);

/// Learning which of two answers is better, or which answer is good. The units are pairs, and labelled answers.
class PreferenceObjective : public Objective {
 public:
  /// `reference` must outlive the objective; null where it needs no reference.
  PreferenceObjective(gemma4::Model model, torch::Device device, PreferenceConfig preference,
                      const ReferenceLogps* reference, gemma4::PhaseObserver observer = {});

  std::int64_t weight(const data::Batch& batch) const override;
  torch::Tensor loss_sum(const data::Batch& batch) override;
  Metrics take_metrics() override;

 private:
  torch::Tensor reference_of(const data::PreferenceRows& rows) const;  // [B]
  torch::Tensor pairs(const data::Batch& batch);
  torch::Tensor labelled(const data::Batch& batch);

  gemma4::Model model_;
  torch::Device device_;
  PreferenceConfig preference_;
  const ReferenceLogps* reference_;
  gemma4::PhaseObserver observer_;
  Metrics metrics_;
};

}  // namespace bezel::train
