#include "bezel/train/objective.h"

#include <utility>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "bezel/gemma4/embedding_noise.h"
#include "bezel/train/forward.h"
#include "bezel/train/loss.h"

namespace bezel::train {

EvalSums Objective::evaluate(const data::Batch& batch) {
  const at::NoGradGuard no_grad;
  return {.loss = loss_sum(batch).item<double>()};
}

SupervisedObjective::SupervisedObjective(gemma4::Model model, torch::Device device, gemma4::PhaseObserver observer,
                                         const SupervisedOptions& options)
    : model_(std::move(model)), device_(device), observer_(std::move(observer)), options_(options) {}

std::int64_t SupervisedObjective::weight(const data::Batch& batch) const { return batch.num_labels(); }

torch::Tensor SupervisedObjective::loss_sum(const data::Batch& batch) {
  const gemma4::EmbeddingNoise noise(model_->is_training() ? options_.noise_alpha : 0.0);
  return train::loss_sum(model_, device_.is_cpu() ? batch : batch.to(device_), observer_, options_.label_smoothing);
}

EvalSums SupervisedObjective::evaluate(const data::Batch& batch) {
  const at::NoGradGuard no_grad;
  const data::Batch moved = device_.is_cpu() ? batch : batch.to(device_);
  const LabelSums sums =
      label_sums(label_states(model_, moved, observer_), *model_->output_embedding(), moved.label_ids,
                 model_->config().text.final_logit_softcapping, options_.label_smoothing);
  if (observer_) observer_(gemma4::Phase::head());
  return {.loss = sums.loss, .correct = sums.correct};
}

}  // namespace bezel::train
