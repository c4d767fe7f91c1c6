#include "bezel/train/trainer_state.h"

namespace bezel::train {

using io::Json;
using io::JsonView;

namespace {

Json to_json(const Metrics& metrics) {
  Json json = Json::object();
  for (const auto& [name, metric] : metrics) json[name] = {metric.sum, metric.weight};
  return json;
}

Json to_json(const ReportWindow& window) {
  Json json = {{"loss", window.loss},       {"grad_norm", window.grad_norm}, {"learning_rate", window.learning_rate},
               {"seconds", window.seconds}, {"steps", window.steps},         {"tokens", window.tokens}};
  if (!window.metrics.empty()) json["metrics"] = to_json(window.metrics);
  return json;
}

Metrics read_metric_sums(const JsonView& window) {
  Metrics metrics;
  const auto json = window.find("metrics");
  if (!json) return metrics;
  for (const auto& [name, value] : json->members()) {
    const std::vector<JsonView> sum = value.elements();
    if (sum.size() != 2) value.fail("a sum and its weight");
    metrics[name] = {sum[0].number(), sum[1].number()};
  }
  return metrics;
}

ReportWindow read_window(const JsonView& json) {
  return {.loss = json.at("loss").number(),
          .grad_norm = json.at("grad_norm").number(),
          .learning_rate = json.at("learning_rate").number(),
          .seconds = json.at("seconds").number(),
          .steps = json.at("steps").whole(),
          .tokens = json.at("tokens").whole(),
          .metrics = read_metric_sums(json)};
}

}  // namespace

Json to_json(const TrainerState& state) {
  Json json = {{"steps_done", state.steps_done},
               {"skipped_steps", state.skipped_steps},
               {"bad_in_a_row", state.bad_in_a_row},
               {"num_tokens", state.num_tokens},
               {"loss_sum", state.loss_sum},
               {"first_loss", state.first_loss},
               {"last_loss", state.last_loss},
               {"seconds", state.seconds},
               {"window", to_json(state.window)},
               {"best", nullptr},
               {"evals_without_gain", state.evals_without_gain},
               {"audited", nullptr}};
  if (state.best) json["best"] = {{"value", state.best->value}, {"step", state.best->step}};
  if (state.audited) json["audited"] = *state.audited;
  return json;
}

TrainerState read_trainer_state(const JsonView& json) {
  TrainerState state{.steps_done = json.at("steps_done").whole(),
                     .skipped_steps = json.at("skipped_steps").whole(),
                     .bad_in_a_row = json.at("bad_in_a_row").whole(),
                     .num_tokens = json.at("num_tokens").whole(),
                     .loss_sum = json.at("loss_sum").number(),
                     .first_loss = json.at("first_loss").number(),
                     .last_loss = json.at("last_loss").number(),
                     .seconds = json.at("seconds").number(),
                     .window = read_window(json.at("window")),
                     .best = {},
                     .evals_without_gain = json.at("evals_without_gain").whole(),
                     .audited = {}};
  // at(), so that a key that was lost is no "nothing".
  if (const JsonView best = json.at("best"); !best.is_null())
    state.best = BestEval{best.at("value").number(), best.at("step").whole()};
  if (const JsonView audited = json.at("audited"); !audited.is_null()) {
    state.audited.emplace();
    for (const JsonView& name : audited.elements()) state.audited->push_back(name.text());
  }
  return state;
}

}  // namespace bezel::train
