#include "bezel/train/preference_keys.h"

#include <algorithm>
#include <initializer_list>
#include <string_view>

#include "bezel/error.h"
#include "bezel/train/config_binding.h"
#include "bezel/train/config_fields.h"

namespace bezel::train {
namespace {

using enum ObjectiveKind;

constexpr std::pair<std::string_view, ObjectiveKind> kObjectives[] = {
    {"sft", kSft}, {"dpo", kDpo}, {"orpo", kOrpo}, {"simpo", kSimpo}, {"kto", kKto}};
constexpr std::string_view kLosses[] = {"sigmoid", "ipo", "hinge", "sft"};
constexpr std::string_view kOnline[] = {"grpo", "ppo", "rloo", "gdpo", "online_dpo", "ebft", "rm", "reward", "prm"};

/// Which objectives use a key.
struct KeyUse {
  std::string_view key;
  std::initializer_list<ObjectiveKind> objectives;
};

constexpr KeyUse kUses[] = {{"dpo_loss", {kDpo}},
                            {"loss_weights", {kDpo}},
                            {"beta", {kDpo, kOrpo, kSimpo, kKto}},
                            {"label_smoothing", {kDpo, kSimpo}},
                            {"simpo_gamma", {kSimpo}},
                            {"cpo_alpha", {kSimpo}},
                            {"desirable_weight", {kKto}},
                            {"undesirable_weight", {kKto}}};

bool is_loss(std::string_view name) { return std::ranges::find(kLosses, name) != std::end(kLosses); }

// The objective that other tools name by a loss; sft for other losses.
ObjectiveKind objective_of_loss(std::string_view name) {
  if (name == "orpo") return kOrpo;
  if (name == "simpo") return kSimpo;
  return name == "kto" ? kKto : kSft;
}

template <typename... Parts>
[[noreturn]] void fail(const std::string& source, std::string_view key, const Parts&... parts) {
  throw Error(ErrorKind::kConfig, source, ": key '", key, "': ", parts...);
}

// A setting that nothing reads would be a wish that nobody hears.
void check_uses(const TrainConfig& config, const std::string& source) {
  const TrainConfig defaults;
  for (const KeyUse& use : kUses) {
    const ConfigBinding* const binding = find_binding(use.key);
    if (std::ranges::find(use.objectives, config.preference.objective) != use.objectives.end()) continue;
    if (binding->write(config) == binding->write(defaults)) continue;
    std::string names;
    for (const ObjectiveKind kind : use.objectives) names += (names.empty() ? "" : ", ") + objective_name(kind);
    fail(source, use.key, "objective: ", objective_name(config.preference.objective), " does not use it; write ",
         use.objectives.size() == 1 ? "objective: " : "one of objective: ", names, ", or delete it");
  }
}

void check_losses(const PreferenceConfig& preference, const std::string& source) {
  if (preference.dpo_loss.empty()) fail(source, "dpo_loss", "expected at least one of: sigmoid, ipo, hinge, sft");
  for (const std::string& loss : preference.dpo_loss)
    if (!is_loss(loss))
      fail(source, "dpo_loss", "got '", loss, "', expected sigmoid, ipo, hinge or sft, or a list of them beside ",
           "loss_weights");
  if (preference.dpo_loss == std::vector<std::string>{"sft"})
    fail(source, "dpo_loss", "sft alone learns from no rejected answer; write objective: sft, or one more loss");
  const auto& weights = preference.loss_weights;
  if (!weights.empty() && weights.size() != preference.dpo_loss.size())
    fail(source, "loss_weights", "has ", weights.size(), " numbers, but dpo_loss has ", preference.dpo_loss.size(),
         " losses");
  for (const double weight : weights)
    if (!(weight >= 0 && weight <= 1e6)) fail(source, "loss_weights", weight, " lies outside 0 … 1e6");
  const bool smooths = preference.label_smoothing != 0;
  if (smooths && std::ranges::find(preference.dpo_loss, "sigmoid") == preference.dpo_loss.end())
    fail(source, "label_smoothing", "belongs to dpo_loss: sigmoid, which is not asked for");
}

void check_ranges(const PreferenceConfig& preference, const std::string& source) {
  const auto range = [&](std::string_view key, double value, double min, double max) {
    if (!(value >= min && value <= max)) fail(source, key, value, " lies outside ", min, " … ", max);
  };
  if (!(preference.beta > 0 && preference.beta <= 1e4))
    fail(source, "beta", preference.beta, ": expected a number above 0, at most 10000");
  range("label_smoothing", preference.label_smoothing, 0.0, 0.5);
  range("simpo_gamma", preference.simpo_gamma, 0.0, 1e4);
  range("cpo_alpha", preference.cpo_alpha, 0.0, 1e6);
  range("desirable_weight", preference.desirable_weight, 0.0, 1e6);
  range("undesirable_weight", preference.undesirable_weight, 0.0, 1e6);
}

}  // namespace

std::string objective_name(ObjectiveKind kind) {
  for (const auto& [name, known] : kObjectives)
    if (known == kind) return std::string(name);
  return "";
}

void read_objective(TrainConfig& config, const ConfigValue& value) {
  const std::string name = value.lower_text();
  if (std::ranges::find(kOnline, name) != std::end(kOnline))
    throw Error(ErrorKind::kConfig, value.where, ": key '", value.key, "': ", name,
                " is not built: rewards of answers that the model generates while it trains need a GPU; learn from "
                "answers that are written down, objective: dpo, orpo, simpo or kto (docs/preferences.md)");
  // axolotl writes a loss of DPO in its place.
  if (name == "ipo") {
    config.preference.objective = kDpo;
    config.preference.dpo_loss = {"ipo"};
    return;
  }
  for (const auto& [known, kind] : kObjectives)
    if (known == name) {
      config.preference.objective = kind;
      return;
    }
  value.fail("sft, dpo, orpo, simpo or kto");
}

std::string write_objective(const TrainConfig& config) { return objective_name(config.preference.objective); }

void read_dpo_loss(TrainConfig& config, const ConfigValue& value) {
  std::vector<std::string> losses = value.as_texts();
  for (const std::string& loss : losses)
    if (!is_loss(loss) && (losses.size() > 1 || objective_of_loss(loss) == kSft))
      value.fail("sigmoid, ipo, hinge or sft, or a list of them beside loss_weights");
  config.preference.dpo_loss = std::move(losses);
}

std::string write_dpo_loss(const TrainConfig& config) { return show(config.preference.dpo_loss); }

void read_loss_weights(TrainConfig& config, const ConfigValue& value) {
  config.preference.loss_weights.clear();
  if (value.kind != ConfigValue::Kind::kList) {
    config.preference.loss_weights.push_back(value.as_number());
    return;
  }
  for (const ConfigValue& item : value.items) config.preference.loss_weights.push_back(item.as_number());
}

std::string write_loss_weights(const TrainConfig& config) {
  std::string out = "[";
  for (const double weight : config.preference.loss_weights) out += (out.size() > 1 ? ", " : "") + show(weight);
  return out + "]";
}

void read_rpo_alpha(TrainConfig& config, const ConfigValue& value) {
  config.preference.rpo_alpha = value.as_number();
  if (!(config.preference.rpo_alpha > 0 && config.preference.rpo_alpha <= 1e6)) value.fail("a number above 0");
}

bool is_plain_loss(const ConfigValue& value) {
  const std::string name = value.lower_text();
  return name == "nll" || name == "chunked_nll" || name == "default";
}

bool is_zero_weight(const ConfigValue& value) { return value.is_off() || value.text == "0.0"; }

void settle_preferences(PreferenceConfig& preference) {
  const PreferenceConfig defaults;
  if (preference.dpo_loss.size() == 1) {
    const ObjectiveKind named = objective_of_loss(preference.dpo_loss[0]);
    // LLaMA-Factory trains ORPO and SimPO in its stage dpo.
    if (named != kSft && (preference.objective == kDpo || preference.objective == named)) {
      preference.objective = named;
      preference.dpo_loss = defaults.dpo_loss;
    }
  }
  if (preference.rpo_alpha == 0) return;
  if (preference.loss_weights.empty()) preference.loss_weights.assign(preference.dpo_loss.size(), 1.0);
  preference.dpo_loss.emplace_back("sft");
  preference.loss_weights.push_back(preference.rpo_alpha);
  preference.rpo_alpha = 0;
}

namespace {

// Keys of supervised training alone. Norms are of the decoder, whatever is asked of it.
void check_beside_preferences(const TrainConfig& config, const std::string& source) {
  constexpr std::string_view kSupervised = "is of objective: sft alone; delete it";
  const auto is_norm = [](const std::string& name) { return name.ends_with("norm"); };
  if (config.neftune_noise_alpha > 0) fail(source, "neftune_noise_alpha", kSupervised);
  if (config.label_smoothing_factor > 0)
    fail(source, "label_smoothing_factor", kSupervised, ", or write label_smoothing, which is of pairs");
  if (config.eval_generate) fail(source, "eval_generate", kSupervised);
  if (config.metric_for_best_model != BestMetric::kLoss)
    fail(source, "metric_for_best_model", "held-out samples have a loss alone here; write loss");
  if (!std::ranges::all_of(config.lora.modules_to_save, is_norm)) fail(source, "modules_to_save", kSupervised);
  if (!config.add_tokens.empty() || !config.add_special_tokens.empty()) fail(source, "add_tokens", kSupervised);
  if (!config.lora.trainable_token_indices.empty()) fail(source, "trainable_token_indices", kSupervised);
  const std::string name = objective_name(config.preference.objective);
  if (config.train_on_inputs)
    fail(source, "train_on_inputs", "objective: ", name, " compares answers alone; delete it");
  if (config.packing.value_or(false))
    fail(source, "packing", "objective: ", name, " keeps each answer in a row of its own; write false");
}

}  // namespace

void check_preferences(const TrainConfig& config, const std::string& source) {
  const PreferenceConfig& preference = config.preference;
  check_uses(config, source);
  check_ranges(preference, source);
  if (!preference.uses_preferences()) return;
  if (preference.objective == kDpo) check_losses(preference, source);
  check_beside_preferences(config, source);
  if (preference.has_labels() && config.micro_batch_size < 2)
    fail(source, "micro_batch_size", "objective: kto compares the answers of a micro-batch with those of its other ",
         "samples; write at least 2");
}

}  // namespace bezel::train
