#include "bezel/train/preference_loss.h"

#include <string>

#include <ATen/ATen.h>

namespace bezel::train {
namespace {

using torch::Tensor;

void add_mean(Metrics& metrics, const std::string& name, const Tensor& values) {
  const auto count = static_cast<double>(values.numel());
  if (count > 0) metrics[name] = {values.detach().to(torch::kDouble).sum().item<double>(), count};
}

// Rewards as TRL names them.
void add_rewards(Metrics& metrics, const Tensor& chosen, const Tensor& rejected) {
  add_mean(metrics, "rewards/chosen", chosen);
  add_mean(metrics, "rewards/rejected", rejected);
  add_mean(metrics, "rewards/margins", chosen - rejected);
  add_mean(metrics, "rewards/accuracies", chosen > rejected);
}

// Of each pair, [n].
Tensor smoothed_sigmoid(const Tensor& scaled, double smoothing) {
  const Tensor loss = -at::log_sigmoid(scaled);
  return smoothing == 0 ? loss : loss * (1 - smoothing) - at::log_sigmoid(-scaled) * smoothing;
}

Tensor dpo_term(const std::string& loss, const PairScores& scores, const Tensor& chosen, const Tensor& rejected,
                const PreferenceConfig& preference) {
  const Tensor delta = chosen - rejected;
  if (loss == "sigmoid") return smoothed_sigmoid(preference.beta * delta, preference.label_smoothing);
  if (loss == "hinge") return at::relu(1 - preference.beta * delta);
  if (loss == "sft") return scores.nll.expand({delta.size(0)});
  TORCH_CHECK(loss == "ipo", "no loss of DPO is called ", loss);
  // Means over tokens: sums would make long answers count more.
  const Tensor means = chosen / scores.chosen_tokens - rejected / scores.rejected_tokens;
  return (means - 1 / (2 * preference.beta)).square();
}

PreferenceLoss dpo_loss(const PairScores& scores, const PreferenceConfig& preference) {
  const Tensor chosen = scores.chosen - scores.reference_chosen;  // log ratios, [n]
  const Tensor rejected = scores.rejected - scores.reference_rejected;
  PreferenceLoss loss{.sum = at::zeros({}, chosen.options()), .metrics = {}};
  for (std::size_t i = 0; i < preference.dpo_loss.size(); ++i) {
    const double weight = preference.loss_weights.empty() ? 1.0 : preference.loss_weights[i];
    if (weight != 0)
      loss.sum = loss.sum + weight * dpo_term(preference.dpo_loss[i], scores, chosen, rejected, preference).sum();
  }
  add_rewards(loss.metrics, preference.beta * chosen.detach(), preference.beta * rejected.detach());
  add_mean(loss.metrics, "logps/chosen", scores.chosen);
  add_mean(loss.metrics, "logps/rejected", scores.rejected);
  return loss;
}

// log(1 - exp(x)) of x < 0, without loss of digits near 0 and far below it.
Tensor log1mexp(const Tensor& x) {
  constexpr double kHalf = -0.6931471805599453;
  // The bound keeps Inf out of the gradient of the branch that is not taken.
  return at::where(x < kHalf, at::log1p(-at::exp(x.clamp_max(kHalf))), at::log(-at::expm1(x)));
}

PreferenceLoss orpo_loss(const PairScores& scores, const PreferenceConfig& preference) {
  const Tensor chosen = scores.chosen / scores.chosen_tokens, rejected = scores.rejected / scores.rejected_tokens;
  const Tensor log_odds = (chosen - rejected) - (log1mexp(chosen) - log1mexp(rejected));
  const Tensor ratio = at::log_sigmoid(log_odds);
  PreferenceLoss loss{.sum = scores.nll * chosen.size(0) - preference.beta * ratio.sum(), .metrics = {}};
  add_rewards(loss.metrics, preference.beta * chosen.detach(), preference.beta * rejected.detach());
  add_mean(loss.metrics, "logps/chosen", chosen);
  add_mean(loss.metrics, "logps/rejected", rejected);
  add_mean(loss.metrics, "log_odds_ratio", ratio);
  add_mean(loss.metrics, "log_odds_chosen", log_odds);
  add_mean(loss.metrics, "nll_loss", scores.nll.expand({chosen.size(0)}));
  return loss;
}

PreferenceLoss simpo_loss(const PairScores& scores, const PreferenceConfig& preference) {
  const Tensor chosen = scores.chosen / scores.chosen_tokens, rejected = scores.rejected / scores.rejected_tokens;
  const Tensor delta = chosen - rejected - preference.simpo_gamma / preference.beta;
  PreferenceLoss loss{.sum = smoothed_sigmoid(preference.beta * delta, preference.label_smoothing).sum(),
                      .metrics = {}};
  add_rewards(loss.metrics, preference.beta * chosen.detach(), preference.beta * rejected.detach());
  add_mean(loss.metrics, "logps/chosen", chosen);
  add_mean(loss.metrics, "logps/rejected", rejected);
  if (preference.cpo_alpha == 0) return loss;
  loss.sum = loss.sum + preference.cpo_alpha * chosen.size(0) * scores.nll;
  add_mean(loss.metrics, "nll_loss", scores.nll.expand({chosen.size(0)}));
  return loss;
}

}  // namespace

PreferenceLoss pair_loss(const PairScores& scores, const PreferenceConfig& preference) {
  TORCH_CHECK(scores.chosen.sizes() == scores.rejected.sizes(), scores.chosen.sizes(), " chosen answers and ",
              scores.rejected.sizes(), " rejected ones");
  if (preference.objective == ObjectiveKind::kOrpo) return orpo_loss(scores, preference);
  if (preference.objective == ObjectiveKind::kSimpo) return simpo_loss(scores, preference);
  TORCH_CHECK(preference.objective == ObjectiveKind::kDpo, "this objective has no loss of pairs");
  return dpo_loss(scores, preference);
}

PreferenceLoss labelled_loss(const LabelledScores& scores, const PreferenceConfig& preference) {
  const Tensor kl = (scores.mismatched - scores.mismatched_reference).mean().detach().clamp_min(0);
  const Tensor ratios = scores.logps - scores.reference;              // [n]
  const Tensor sign = scores.is_desirable.to(torch::kFloat) * 2 - 1;  // 1 or -1
  const Tensor weight = at::where(scores.is_desirable, preference.desirable_weight, preference.undesirable_weight);
  const Tensor losses = 1 - at::sigmoid(preference.beta * sign * (ratios - kl));
  PreferenceLoss loss{.sum = (weight.to(torch::kFloat) * losses).sum(), .metrics = {}};
  const Tensor rewards = preference.beta * ratios.detach(), logps = scores.logps.detach();
  add_mean(loss.metrics, "kl", kl.unsqueeze(0));
  add_mean(loss.metrics, "rewards/chosen", rewards.masked_select(scores.is_desirable));
  add_mean(loss.metrics, "rewards/rejected", rewards.masked_select(~scores.is_desirable));
  add_mean(loss.metrics, "logps/chosen", logps.masked_select(scores.is_desirable));
  add_mean(loss.metrics, "logps/rejected", logps.masked_select(~scores.is_desirable));
  return loss;
}

}  // namespace bezel::train
