#pragma once

#include "bezel/gemma4/model.h"
#include "bezel/gemma4/phase.h"
#include "bezel/generate/generator.h"
#include "bezel/train/batch_plan.h"
#include "bezel/train/config.h"

namespace bezel::train {

/// The held-out samples of a run as questions (config key eval_generate). Samples without a prompt are skipped.
class EvalAnswers {
 public:
  /// `batches` must outlive this. Throws Error when the checkpoint's settings of generation are damaged.
  EvalAnswers(const TrainConfig& config, const BatchPlan& batches);

  /// Share of the samples that the model answers, greedily, with the sample's own answer (data::score_answer). Puts the
  /// model into evaluation mode; weights stay mapped. Throws Error (kConfig) when no sample has a prompt.
  double exact_match(gemma4::Model& model, const gemma4::PhaseObserver& observer, ProcessGroup& group) const;

 private:
  const BatchPlan& batches_;
  generate::GenerateOptions limits_;
};

}  // namespace bezel::train
