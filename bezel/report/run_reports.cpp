#include "bezel/report/run_reports.h"

#include <algorithm>
#include <cmath>
#include <ctime>
#include <filesystem>
#include <limits>
#include <utility>

#include "bezel/data/jsonl.h"
#include "bezel/error.h"
#include "bezel/gemma4/parts.h"
#include "bezel/io/atomic_write.h"
#include "bezel/report/environment.h"
#include "bezel/report/html.h"
#include "bezel/train/intervals.h"

namespace bezel::report {
namespace {

namespace fs = std::filesystem;

// Writing the page costs milliseconds, but flushing it to disk may cost more.
constexpr std::chrono::seconds kPageInterval(5);

bool asks_for(const train::TrainConfig& config, std::string_view name) {
  return std::ranges::find(config.report_to, name) != config.report_to.end();
}

std::string local_time() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  char text[64] = "";
  if (::localtime_r(&now, &parts) != nullptr) std::strftime(text, sizeof text, "%Y-%m-%d %H:%M", &parts);
  return text;
}

// "name: value" lines of a config, and whether they are as without any config.
std::vector<Setting> settings_of(const train::TrainConfig& config) {
  const auto lines = [](const std::string& yaml) {
    std::vector<std::string> out;
    for (std::size_t begin = 0; begin < yaml.size();) {
      const std::size_t end = yaml.find('\n', begin);
      out.push_back(yaml.substr(begin, end - begin));
      begin = end + 1;
    }
    return out;
  };
  const std::vector<std::string> defaults = lines(to_yaml(train::TrainConfig()));
  std::vector<Setting> settings;
  for (const std::string& line : lines(to_yaml(config))) {
    const std::size_t colon = line.find(": ");
    const bool is_default = std::ranges::find(defaults, line) != defaults.end();
    settings.push_back({line.substr(0, colon), line.substr(colon + 2), is_default});
  }
  return settings;
}

// "model.vision_tower.encoder.layers.3.self_attn.q_proj" -> vision, 3, self_attn.q_proj.
ClipRow row_of(const train::LayerSaturation& layer) {
  ClipRow row;
  const gemma4::Place place = gemma4::place_of(layer.name);
  row.tower = place.part != nullptr ? place.part->label : "other";
  row.layer = place.layer;
  row.projection = place.layer >= 0 ? std::string(place.name) : layer.name;
  const nn::ClipCounts& counts = layer.counts;
  const auto share = [](std::int64_t part, std::int64_t all) {
    return all > 0 ? static_cast<double>(part) / static_cast<double>(all) : 0.0;
  };
  row.shares = {share(counts.input_min, counts.inputs), share(counts.input_max, counts.inputs),
                share(counts.output_min, counts.outputs), share(counts.output_max, counts.outputs)};
  return row;
}

}  // namespace

namespace {

Preference preference_of(const std::map<std::string, double>& metrics) {
  Preference preference;
  if (const auto found = metrics.find("rewards/margins"); found != metrics.end()) preference.margin = found->second;
  if (const auto found = metrics.find("rewards/accuracies"); found != metrics.end())
    preference.accuracy = found->second;
  return preference;
}

// The first and the latest.
void add_table(RunHistory& history, ExpertTable table) {
  if (history.experts.size() > 1) history.experts.pop_back();
  history.experts.push_back(std::move(table));
}

ExpertTable expert_table(std::int64_t step, const io::JsonView& layers) {
  ExpertTable table{step, {}};
  for (const auto& [name, shares] : layers.members()) {
    ExpertRow& row = table.rows.emplace_back();
    row.layer = gemma4::place_of(name).layer;
    for (const io::JsonView& share : shares.elements()) row.shares.push_back(share.number());
  }
  // Names of a JSON object are sorted as words.
  std::ranges::sort(table.rows, {}, &ExpertRow::layer);
  return table;
}

}  // namespace

void read_metrics(const std::string& path, RunHistory& history) {
  const data::JsonlFile file(path);
  for (std::size_t i = 0; i < file.size(); ++i) {
    const io::Json json = io::parse_json(file.read(i), file.source(i));
    const io::JsonView row(json, file.source(i));
    const auto number = [&](const char* name) {
      const auto value = row.find(name);
      return value ? value->number() : std::numeric_limits<double>::quiet_NaN();
    };
    if (const auto load = row.find("expert_load"))
      add_table(history, expert_table(row.at("step").whole(), *load));
    else if (row.find("eval_loss"))
      history.evals.push_back({row.at("step").whole(),
                               number("eval_loss"),
                               {number("eval_rewards/margins"), number("eval_rewards/accuracies")}});
    else if (row.find("learning_rate"))
      history.steps.push_back({row.at("step").whole(),
                               number("epoch"),
                               number("loss"),
                               number("learning_rate"),
                               number("grad_norm"),
                               number("tokens_per_second"),
                               number("peak_memory_bytes"),
                               {number("rewards/margins"), number("rewards/accuracies")}});
  }
}

RunReports::RunReports(const train::TrainConfig& config, std::vector<Setting> environment)
    : config_(config), wants_events_(asks_for(config, "tensorboard")), wants_page_(asks_for(config, "html")) {
  const fs::path model = fs::path(config.base_model).lexically_normal();
  history_.model = (model.has_filename() ? model : model.parent_path()).filename().string();
  history_.output_dir = config.output_dir;
  history_.started = local_time();
  history_.environment = std::move(environment);
}

RunReports::~RunReports() {
  if (started_ && history_.state == RunState::kRunning) fail("");
}

// Failing to write a report must not stop training.
template <typename Action>
void RunReports::guarded(Action action) {
  try {
    action();
  } catch (const Error& error) {
    if (problem_.empty()) problem_ = error.what();
  }
}

train::RunEvents RunReports::events(train::RunEvents inner) {
  train::RunEvents out = inner;
  out.on_start = [this, next = inner.on_start](const train::RunPlan& plan) {
    start(plan);
    if (next) next(plan);
  };
  out.on_step = [this, next = inner.on_step](const train::StepReport& report) {
    add(report);
    if (next) next(report);
  };
  out.on_eval = [this, next = inner.on_eval](const train::EvalReport& report) {
    add(report);
    if (next) next(report);
  };
  out.on_predictions = [this, next = inner.on_predictions](const std::vector<train::SamplePrediction>& predictions) {
    history_.predictions.clear();
    for (const train::SamplePrediction& item : predictions)
      history_.predictions.push_back({item.source, item.prompt, item.expected, item.before, item.after});
    write_page(true);
    if (next) next(predictions);
  };
  if (wants_page_)
    out.on_saturation = [this, next = inner.on_saturation](std::int64_t step,
                                                           const std::vector<train::LayerSaturation>& layers) {
      add(step, layers);
      if (next) next(step, layers);
    };
  out.on_expert_load = [this, next = inner.on_expert_load](std::int64_t step,
                                                           const std::vector<train::LayerLoad>& layers) {
    add(step, layers);
    if (next) next(step, layers);
  };
  return out;
}

void RunReports::start(const train::RunPlan& plan) {
  started_ = true;
  start_ = Clock::now();
  history_.settings = settings_of(plan.config);
  history_.total_steps = plan.total_steps;
  logging_steps_ = train::make_intervals(config_, plan.total_steps, plan.steps_per_epoch).logging;
  history_.num_samples = plan.num_samples;
  history_.num_eval_samples = plan.num_eval_samples;
  history_.notes = plan.warnings;
  history_.notes.insert(history_.notes.end(), plan.notes.begin(), plan.notes.end());
  for (const lora::TowerCount& tower : plan.towers)
    history_.towers.push_back({std::string(lora::tower_name(tower.tower)), tower.layers, tower.parameters});
  std::vector<Setting> found = describe_environment();
  found.push_back({"device", plan.device, false});
  history_.environment.insert(history_.environment.end(), found.begin(), found.end());
  // A resumed run reads its earlier rows here.
  const std::string metrics = config_.output_dir + "/metrics.jsonl";
  std::error_code error;
  if (asks_for(config_, "jsonl") && fs::exists(metrics, error)) guarded([&] { read_metrics(metrics, history_); });
  write_page(true);
}

void RunReports::add(const train::StepReport& report) {
  if (std::exchange(first_report_, false)) {
    std::erase_if(history_.steps, [&](const StepRow& row) { return row.step >= report.step; });
    std::erase_if(history_.evals, [&](const EvalRow& row) { return row.step >= report.step; });
  }
  history_.total_steps = report.total_steps;
  history_.skipped_steps = report.skipped_steps;
  history_.seconds_left = report.seconds_left;
  history_.steps.push_back({report.step, report.epoch, report.loss, report.learning_rate, report.grad_norm,
                            report.tokens_per_s, static_cast<double>(report.peak_memory_bytes),
                            preference_of(report.metrics)});
  std::vector<Scalar> scalars = {{"train/loss", report.loss},
                                 {"train/learning_rate", report.learning_rate},
                                 {"train/grad_norm", report.grad_norm},
                                 {"train/tokens_per_second", report.tokens_per_s},
                                 {"train/peak_memory_mib", static_cast<double>(report.peak_memory_bytes) / (1 << 20)},
                                 {"train/epoch", report.epoch}};
  for (const auto& [name, value] : report.metrics) scalars.push_back({"train/" + name, value});
  write_events(report.step, std::move(scalars));
  write_page(false);
}

void RunReports::add(const train::EvalReport& report) {
  history_.evals.push_back({report.step, report.loss, preference_of(report.metrics)});
  std::vector<Scalar> scalars = {{"eval/loss", report.loss}};
  if (report.accuracy) scalars.push_back({"eval/mean_token_accuracy", *report.accuracy});
  if (report.exact_match) scalars.push_back({"eval/exact_match", *report.exact_match});
  for (const auto& [name, value] : report.metrics) scalars.push_back({"eval/" + name, value});
  write_events(report.step, std::move(scalars));
  write_page(false);
}

void RunReports::add(std::int64_t step, const std::vector<train::LayerSaturation>& layers) {
  if (layers.empty()) return;
  ClipTable table{step, {}};
  for (const train::LayerSaturation& layer : layers) table.rows.push_back(row_of(layer));
  history_.clips.push_back(std::move(table));
}

void RunReports::add(std::int64_t step, const std::vector<train::LayerLoad>& layers) {
  ExpertTable table{step, {}};
  for (const train::LayerLoad& layer : layers) table.rows.push_back({gemma4::place_of(layer.name).layer, layer.shares});
  add_table(history_, std::move(table));
}

void RunReports::finish(const train::TrainSummary& summary) {
  history_.state = summary.stopped ? RunState::kStopped : RunState::kDone;
  write_page(true);
}

void RunReports::fail(const std::string& message) {
  if (!started_) return;
  history_.state = RunState::kFailed;
  history_.failure = message;
  write_page(true);
}

void RunReports::write_events(std::int64_t step, std::vector<Scalar> scalars) {
  if (!wants_events_) return;
  guarded([&] {
    if (!writer_) {
      const std::int64_t first = std::max<std::int64_t>(0, step - logging_steps_ + 1);
      writer_ = std::make_unique<EventWriter>(config_.output_dir + "/runs", first);
    }
    writer_->add(step, scalars);
  });
}

void RunReports::write_page(bool now) {
  if (!wants_page_ || !started_ || (!now && Clock::now() - last_page_ < kPageInterval)) return;
  history_.seconds = std::chrono::duration<double>(Clock::now() - start_).count();
  guarded([&] { io::write_file_atomically(config_.output_dir + "/report.html", render_html(history_)); });
  last_page_ = Clock::now();
}

}  // namespace bezel::report
