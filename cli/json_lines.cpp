#include "cli/json_lines.h"

#include <cstdio>

#include "bezel/io/json.h"
#include "bezel/train/metrics_file.h"

namespace bezel::cli {
namespace {

using io::Json;

void print_event(const Json& row) {
  std::printf("%s\n", row.dump(-1, ' ', false, Json::error_handler_t::replace).c_str());
  std::fflush(stdout);
}

Json start_row(const train::RunPlan& plan) {
  Json towers = Json::array();
  for (const lora::TowerCount& count : plan.towers)
    towers.push_back({{"tower", std::string(lora::tower_name(count.tower))},
                      {"layers", count.layers},
                      {"parameters", count.parameters}});
  return {{"event", "start"},
          {"total_steps", plan.total_steps},
          {"steps_per_epoch", plan.steps_per_epoch},
          {"samples", plan.num_samples},
          {"packed_rows", plan.num_packed_rows},
          {"held_out_samples", plan.num_eval_samples},
          {"bad_samples", plan.data.num_bad},
          {"too_long_samples", plan.data.num_too_long},
          {"cut_samples", plan.data.num_cut},
          {"thoughts_left_out", plan.data.thoughts.count},
          {"empty_answers", plan.data.empty_answers.count},
          {"added_requests", plan.data.added_requests.count},
          {"long_audio_clips", plan.data.long_audio_clips.count},
          {"towers", towers},
          {"device", plan.device},
          {"ranks", plan.ranks},
          {"notes", plan.notes}};
}

Json saturation_row(std::int64_t step, const std::vector<train::LayerSaturation>& layers) {
  Json rows = Json::array();
  for (const train::LayerSaturation& layer : layers)
    rows.push_back({{"layer", layer.name},
                    {"inputs", layer.counts.inputs},
                    {"outputs", layer.counts.outputs},
                    {"input_min", layer.counts.input_min},
                    {"input_max", layer.counts.input_max},
                    {"output_min", layer.counts.output_min},
                    {"output_max", layer.counts.output_max}});
  return {{"event", "saturation"}, {"step", step}, {"layers", rows}};
}

Json step_row(const train::StepReport& report) {
  Json row = {{"event", "step"},
              {"step", report.step},
              {"total_steps", report.total_steps},
              {"epoch", report.epoch},
              {"loss", train::json_number(report.loss)},
              {"learning_rate", report.learning_rate},
              {"grad_norm", train::json_number(report.grad_norm)},
              {"tokens_per_second", train::json_number(report.tokens_per_s)},
              {"seconds_left", report.seconds_left},
              {"peak_memory_bytes", report.peak_memory_bytes},
              {"skipped_steps", report.skipped_steps}};
  return train::with_metrics(std::move(row), report.metrics);
}

}  // namespace

train::RunEvents json_line_events() {
  train::RunEvents events;
  events.on_start = [](const train::RunPlan& plan) {
    for (const std::string& warning : plan.warnings) print_event({{"event", "warning"}, {"text", warning}});
    print_event(start_row(plan));
  };
  events.on_step = [](const train::StepReport& report) { print_event(step_row(report)); };
  events.on_eval = [](const train::EvalReport& report) {
    Json row = {{"event", "eval"},
                {"step", report.step},
                {"loss", train::json_number(report.loss)},
                {"labels", report.num_labels},
                {"seconds", report.seconds}};
    if (report.accuracy) row["mean_token_accuracy"] = *report.accuracy;
    if (report.exact_match) row["exact_match"] = *report.exact_match;
    print_event(train::with_metrics(std::move(row), report.metrics));
  };
  events.on_reference = [](std::size_t done, std::size_t total) {
    if (done == total) print_event({{"event", "reference"}, {"samples", total}});
  };
  events.on_saturation = [](std::int64_t step, const std::vector<train::LayerSaturation>& layers) {
    if (!layers.empty()) print_event(saturation_row(step, layers));
  };
  events.on_expert_load = [](std::int64_t step, const std::vector<train::LayerLoad>& layers) {
    print_event({{"event", "expert_load"}, {"step", step}, {"layers", train::to_json(layers)}});
  };
  events.on_predictions = [](const std::vector<train::SamplePrediction>& predictions) {
    Json rows = Json::array();
    for (const train::SamplePrediction& item : predictions) rows.push_back(train::to_json(item));
    print_event({{"event", "predictions"}, {"samples", rows}});
  };
  events.on_save = [](const std::string& folder) { print_event({{"event", "save"}, {"folder", folder}}); };
  events.on_save_failed = [](const std::string& why) { print_event({{"event", "save_failed"}, {"why", why}}); };
  events.on_left_out = [](const std::string& why) { print_event({{"event", "left_out"}, {"why", why}}); };
  return events;
}

void print_json_end(const train::RunResult& result) {
  const train::TrainSummary& summary = result.summary;
  print_event({{"event", "end"},
               {"steps", summary.steps},
               {"first_loss", train::json_number(summary.first_loss)},
               {"last_loss", train::json_number(summary.last_loss)},
               {"mean_loss", train::json_number(summary.mean_loss)},
               {"tokens", summary.num_tokens},
               {"stopped_early", summary.stopped_early},
               {"best_step", summary.best_loaded ? Json(summary.best_loaded->step) : Json(nullptr)},
               {"seconds", summary.seconds},
               {"skipped_steps", summary.skipped_steps},
               {"stopped", summary.stopped},
               {"adapter", result.adapter}});
}

}  // namespace bezel::cli
