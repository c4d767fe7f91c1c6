#include "bezel/train/preference_objective.h"

#include <algorithm>
#include <utility>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "bezel/train/forward.h"
#include "bezel/train/label_logps.h"
#include "bezel/train/preference_loss.h"

namespace bezel::train {
namespace {

using data::PreferenceRows;
using input::AnswerRole;
using torch::Tensor;

// The rows of a role, int64 [.].
Tensor rows_of(const PreferenceRows& rows, AnswerRole role, torch::Device device) {
  std::vector<std::int64_t> found;
  for (std::size_t i = 0; i < rows.roles.size(); ++i)
    if (rows.roles[i] == role) found.push_back(static_cast<std::int64_t>(i));
  return at::tensor(found, at::kLong).to(device);
}

Tensor answer_mask(const PreferenceRows& rows, torch::Device device) {
  std::vector<float> mask(rows.is_answer.begin(), rows.is_answer.end());
  return at::tensor(mask, at::kFloat).to(device);
}

}  // namespace

AnswerLogps answer_logps(gemma4::Model& model, const data::Batch& batch, const gemma4::PhaseObserver& observer) {
  TORCH_CHECK(batch.preferences, "the batch has no answers to compare");
  const PreferenceRows& rows = *batch.preferences;
  const Tensor logps = label_logps(label_states(model, batch, observer), *model->output_embedding(), batch.label_ids,
                                   model->config().text.final_logit_softcapping);  // [L]
  if (observer) observer(gemma4::Phase::head());
  const Tensor mask = answer_mask(rows, logps.device());
  const Tensor row = at::tensor(rows.label_answer, at::kLong).to(logps.device());  // [L]
  const Tensor zeros = at::zeros({static_cast<std::int64_t>(rows.roles.size())}, logps.options());
  AnswerLogps out{.sums = zeros.index_add(0, row, logps * mask), .tokens = zeros.index_add(0, row, mask), .nll = {}};
  const Tensor chosen = rows_of(rows, AnswerRole::kChosen, logps.device());
  if (chosen.numel() == 0) return out;
  const Tensor in_chosen = at::isin(row, chosen).to(torch::kFloat);  // [L]
  out.nll = -(logps * in_chosen).sum() / in_chosen.sum();
  return out;
}

PreferenceObjective::PreferenceObjective(gemma4::Model model, torch::Device device, PreferenceConfig preference,
                                         const ReferenceLogps* reference, gemma4::PhaseObserver observer)
    : model_(std::move(model)),
      device_(device),
      preference_(std::move(preference)),
      reference_(reference),
      observer_(std::move(observer)) {
  TORCH_CHECK(reference_ != nullptr || !preference_.uses_reference(), "the objective needs a reference");
}

std::int64_t PreferenceObjective::weight(const data::Batch& batch) const {
  if (!batch.preferences) return 0;
  const auto rows = static_cast<std::int64_t>(batch.preferences->roles.size());
  return preference_.has_labels() ? rows : rows / 2;
}

Tensor PreferenceObjective::loss_sum(const data::Batch& batch) {
  const data::Batch moved = device_.is_cpu() ? batch : batch.to(device_);
  return preference_.has_labels() ? labelled(moved) : pairs(moved);
}

Metrics PreferenceObjective::take_metrics() { return std::exchange(metrics_, {}); }

Tensor PreferenceObjective::reference_of(const PreferenceRows& rows) const {
  std::vector<float> logps;
  for (const std::int64_t answer : rows.answers) logps.push_back(reference_->at(answer));
  return at::tensor(logps, at::kFloat).to(device_);
}

Tensor PreferenceObjective::pairs(const data::Batch& batch) {
  const PreferenceRows& rows = *batch.preferences;
  const Tensor chosen = rows_of(rows, AnswerRole::kChosen, device_);
  const Tensor rejected = rows_of(rows, AnswerRole::kRejected, device_);
  const AnswerLogps logps = answer_logps(model_, batch, observer_);
  PairScores scores{.chosen = logps.sums.index_select(0, chosen),
                    .rejected = logps.sums.index_select(0, rejected),
                    .reference_chosen = {},
                    .reference_rejected = {},
                    .chosen_tokens = logps.tokens.index_select(0, chosen),
                    .rejected_tokens = logps.tokens.index_select(0, rejected),
                    .nll = logps.nll};
  if (preference_.uses_reference()) {
    const Tensor reference = reference_of(rows);
    scores.reference_chosen = reference.index_select(0, chosen);
    scores.reference_rejected = reference.index_select(0, rejected);
  }
  PreferenceLoss loss = pair_loss(scores, preference_);
  add_metrics(metrics_, loss.metrics);
  return loss.sum;
}

Tensor PreferenceObjective::labelled(const data::Batch& batch) {
  const PreferenceRows& rows = *batch.preferences;
  TORCH_CHECK(rows.mismatched, "KTO needs mismatched answers");
  LabelledScores scores;
  {
    const at::NoGradGuard no_grad;
    const data::Batch other = device_.is_cpu() ? *rows.mismatched : rows.mismatched->to(device_);
    scores.mismatched = answer_logps(model_, other, observer_).sums;
    scores.mismatched_reference = reference_of(*other.preferences);
  }
  scores.logps = answer_logps(model_, batch, observer_).sums;
  scores.reference = reference_of(rows);
  std::vector<bool> good;
  for (const AnswerRole role : rows.roles) good.push_back(role == AnswerRole::kDesirable);
  scores.is_desirable = at::empty({static_cast<std::int64_t>(good.size())}, at::kBool);
  std::copy(good.begin(), good.end(), scores.is_desirable.data_ptr<bool>());
  scores.is_desirable = scores.is_desirable.to(device_);
  PreferenceLoss loss = labelled_loss(scores, preference_);
  add_metrics(metrics_, loss.metrics);
  return loss.sum;
}

}  // namespace bezel::train
