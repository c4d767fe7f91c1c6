#include "bezel/report/html.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "bezel/report/html_chart.h"
#include "bezel/report/html_clips.h"
#include "bezel/report/html_experts.h"
#include "bezel/report/html_style.h"
#include "bezel/report/html_text.h"

namespace bezel::report {
namespace {

// Enough points that a mean over some of them says more than they do.
constexpr std::size_t kSmoothFrom = 16;

std::vector<Point> points_of(const std::vector<StepRow>& steps, double StepRow::*member, double factor = 1.0) {
  std::vector<Point> out;
  for (const StepRow& row : steps) out.push_back({static_cast<double>(row.step), row.*member * factor});
  return out;
}

// What jumps about from report to report is shown with a line through it, once there is enough of it.
std::vector<Line> noisy(std::vector<Point> points) {
  if (points.empty()) return {};
  if (points.size() < kSmoothFrom) return {{"each report", "main", std::move(points), true}};
  std::vector<Point> mean = smoothed(points, std::max(6.0, static_cast<double>(points.size()) / 25));
  return {{"each report", "raw", std::move(points), false}, {"smoothed", "main", std::move(mean), false}};
}

Chart loss_chart(const RunHistory& history) {
  const bool by_preference =
      std::ranges::any_of(history.steps, [](const StepRow& row) { return std::isfinite(row.preference.margin); });
  Chart chart{"loss", "Loss", by_preference ? "a pair or answer" : "nats a token",
              noisy(points_of(history.steps, &StepRow::loss)), false};
  if (!chart.lines.empty()) chart.lines.back().name = chart.lines.size() > 1 ? "training, smoothed" : "training";
  std::vector<Point> held;
  for (const EvalRow& row : history.evals) held.push_back({static_cast<double>(row.step), row.loss});
  if (!held.empty()) chart.lines.push_back({"held out", "held", std::move(held), true});
  return chart;
}

// A curve of training by preference; "" for any other run.
std::string preference_chart(const RunHistory& history, const char* id, const char* title, const char* unit,
                             double Preference::*member, double factor) {
  const auto points = [&](const auto& rows) {
    std::vector<Point> out;
    for (const auto& row : rows)
      if (std::isfinite(row.preference.*member))
        out.push_back({static_cast<double>(row.step), row.preference.*member * factor});
    return out;
  };
  Chart chart{id, title, unit, noisy(points(history.steps)), false};
  if (chart.lines.empty()) return "";
  chart.lines.back().name = chart.lines.size() > 1 ? "training, smoothed" : "training";
  if (std::vector<Point> held = points(history.evals); !held.empty())
    chart.lines.push_back({"held out", "held", std::move(held), true});
  return chart_html(chart);
}

std::string charts(const RunHistory& history) {
  const auto line = [&](double StepRow::*member, double factor = 1.0) {
    return std::vector<Line>{{"", "main", points_of(history.steps, member, factor), false}};
  };
  double most = 0;
  for (const StepRow& row : history.steps) most = std::max(most, row.memory_bytes);
  const bool in_gib = most >= 1u << 30;
  const double scale = 1.0 / (in_gib ? 1u << 30 : 1u << 20);
  std::string loss = chart_html(loss_chart(history));
  if (loss.empty()) return "<p class=\"lead\">No step is done yet.</p>";
  loss.replace(loss.find("\"chart\""), 7, "\"chart wide\"");
  return "<div class=\"charts\">" + loss +
         preference_chart(history, "margin", "Reward margin", "chosen less rejected", &Preference::margin, 1) +
         preference_chart(history, "accuracy", "Preference accuracy", "% of the pairs", &Preference::accuracy, 100) +
         chart_html({"rate", "Learning rate", "", line(&StepRow::learning_rate), true}) +
         chart_html(
             {"norm", "Gradient norm", "before clipping", noisy(points_of(history.steps, &StepRow::grad_norm)), true}) +
         chart_html(
             {"speed", "Speed", "tokens a second", noisy(points_of(history.steps, &StepRow::tokens_per_s)), true}) +
         chart_html({"memory", "Memory, peak", in_gib ? "GiB" : "MiB", line(&StepRow::memory_bytes, scale), true}) +
         "</div>\n";
}

std::string tile(const std::string& name, const std::string& value, const std::string& more) {
  return "<div><dt>" + escaped(name) + "</dt><dd>" + escaped(value) +
         (more.empty() ? "" : "<small>" + escaped(more) + "</small>") + "</dd></div>";
}

double median_speed(const std::vector<StepRow>& steps) {
  std::vector<double> speeds;
  for (const StepRow& row : steps) speeds.push_back(row.tokens_per_s);
  if (speeds.empty()) return std::numeric_limits<double>::quiet_NaN();
  const auto middle = speeds.begin() + static_cast<std::ptrdiff_t>(speeds.size() / 2);
  std::nth_element(speeds.begin(), middle, speeds.end());
  return *middle;
}

// Of the held-out samples where there are some.
std::string preference_tiles(const RunHistory& history) {
  const bool held_out = !history.evals.empty();
  if (!held_out && history.steps.empty()) return "";
  const Preference& last = held_out ? history.evals.back().preference : history.steps.back().preference;
  const char* const of = held_out ? "held out" : "training";
  std::string out;
  if (std::isfinite(last.margin)) out += tile("Reward margin", number_text(last.margin), of);
  if (std::isfinite(last.accuracy)) out += tile("Preference accuracy", number_text(100 * last.accuracy, 3) + " %", of);
  return out;
}

std::string loss_tiles(const RunHistory& history) {
  std::string out;
  std::vector<double> losses;
  for (const StepRow& row : history.steps)
    if (std::isfinite(row.loss)) losses.push_back(row.loss);
  if (!losses.empty()) out += tile("Training loss", number_text(losses.back()), "from " + number_text(losses.front()));
  if (!history.evals.empty()) {
    const auto best = std::ranges::min_element(history.evals, {}, &EvalRow::loss);
    out += tile("Held-out loss", number_text(history.evals.back().loss),
                "best " + number_text(best->loss) + " at step " + count_text(best->step));
  }
  return out;
}

std::string tiles(const RunHistory& history) {
  std::int64_t parameters = 0, layers = 0;
  for (const TowerRow& tower : history.towers) {
    parameters += tower.parameters;
    layers += tower.layers;
  }
  const std::int64_t step = history.steps.empty() ? 0 : history.steps.back().step;
  std::string out = "<dl class=\"tiles\">" + loss_tiles(history) + preference_tiles(history);
  out += tile("Steps", count_text(step),
              "of " + count_text(history.total_steps) +
                  (history.skipped_steps > 0 ? ", " + count_text(history.skipped_steps) + " skipped" : ""));
  out += tile("Time", duration_text(history.seconds),
              history.state == RunState::kRunning ? duration_text(history.seconds_left) + " left" : "");
  if (!history.steps.empty()) {
    out += tile("Speed", number_text(median_speed(history.steps), 3), "tokens/s, median");
    out += tile("Peak memory", memory_text(history.steps.back().memory_bytes), "of the process");
  }
  out += tile("Trainable", parameters < 1000000 ? count_text(parameters) : number_text(parameters / 1e6, 3) + " M",
              "in " + count_text(layers) + " layers");
  return out + "</dl>\n";
}

std::string towers(const RunHistory& history) {
  std::string out =
      "<section id=\"towers\"><h2>What is trained</h2><div class=\"scroll\"><table><tr><th>tower</th>"
      "<th class=\"n\">layers</th><th class=\"n\">trainable parameters</th></tr>";
  for (const TowerRow& tower : history.towers)
    out += "<tr><td>" + escaped(tower.name) + "</td><td class=\"n\">" + count_text(tower.layers) +
           "</td><td class=\"n\">" + count_text(tower.parameters) + "</td></tr>";
  return out + "</table></div></section>\n";
}

std::string answer(const char* name, const std::string& text, const std::string& wanted, bool is_due) {
  const bool is_right = !text.empty() && text == wanted;
  std::string out = std::string("<div") + (is_right ? " class=\"right\"" : "") + "><h4>" + name +
                    (is_right ? " (as wanted)" : "") + "</h4>";
  if (text.empty()) return out + "<p class=\"none\">" + (is_due ? "nothing" : "not yet") + "</p></div>";
  return out + "<p>" + escaped(text) + "</p></div>";
}

std::string predictions(const RunHistory& history) {
  if (history.predictions.empty()) return "";
  std::string out = "<section id=\"predictions\"><h2>Answers before and after</h2><div class=\"answers\">";
  for (const Prediction& item : history.predictions)
    out += "<article><dl><dt>asked</dt><dd>" + escaped(asked_text(item.prompt)) + "</dd><dt>wanted</dt><dd>" +
           escaped(item.wanted) + "</dd></dl><div class=\"both\">" +
           answer("before training", item.before, item.wanted, true) +
           answer("after", item.after, item.wanted, history.state == RunState::kDone) + "</div><p class=\"source\">" +
           escaped(item.source) + "</p></article>";
  return out + "</div></section>\n";
}

std::string pairs(const std::vector<Setting>& list, bool defaults) {
  std::string out;
  for (const Setting& item : list)
    if (item.is_default == defaults)
      out += "<tr><th>" + escaped(item.name) + "</th><td>" + escaped(item.value) + "</td></tr>";
  return out.empty() ? "" : "<table class=\"pairs\">" + out + "</table>";
}

std::string settings(const RunHistory& history) {
  std::string out = "<section id=\"settings\"><h2>Settings</h2>" + pairs(history.settings, false);
  if (const std::string rest = pairs(history.settings, true); !rest.empty())
    out += "<details><summary>Those left at their defaults</summary>" + rest + "</details>";
  return out + "</section>\n<section id=\"environment\"><h2>Environment</h2>" + pairs(history.environment, false) +
         "</section>\n";
}

std::string header(const RunHistory& history) {
  constexpr std::pair<const char*, const char*> kStates[] = {
      {"running", "running"}, {"done", "done"}, {"stopped", "stopped"}, {"failed", "ended early"}};
  const auto& [style, text] = kStates[static_cast<int>(history.state)];
  const double done = history.steps.empty() ? 0.0 : static_cast<double>(history.steps.back().step);
  const double share = std::min(1.0, done / static_cast<double>(std::max<std::int64_t>(1, history.total_steps)));
  std::string out = "<header><h1>" + escaped(history.model) + "</h1><span class=\"state " + style + "\">" + text +
                    "</span></header><p class=\"sub\">Adapter in " + escaped(history.output_dir) + ", " +
                    count_text(history.num_samples) + " samples";
  if (history.num_eval_samples > 0) out += ", " + count_text(history.num_eval_samples) + " held out";
  out += ", started " + escaped(history.started) + "</p>";
  if (!history.failure.empty()) out += "<p class=\"problem\">" + escaped(history.failure) + "</p>";
  if (history.state == RunState::kRunning)
    out += "<div class=\"bar\"><i style=\"width:" + number_text(100 * share, 3) + "%\"></i></div>";
  if (history.notes.empty()) return out + "\n";
  out += "<ul class=\"notes\">";
  for (const std::string& note : history.notes) out += "<li>" + escaped(note) + "</li>";
  return out + "</ul>\n";
}

}  // namespace

std::string render_html(const RunHistory& history) {
  std::string out =
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width,initial-scale=1\">\n<meta http-equiv=\"Content-Security-Policy\" "
      "content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:\">\n"
      "<link rel=\"icon\" href=\"data:,\">\n";
  if (history.state == RunState::kRunning) out += "<meta http-equiv=\"refresh\" content=\"10\">\n";
  out += "<title>Bezel: " + escaped(history.model) + "</title>\n<style>" + std::string(style_sheet()) +
         "</style></head>\n<body><main>\n";
  out += header(history) + tiles(history) + "<section id=\"curves\"><h2>Curves</h2>" + charts(history) +
         "</section>\n" + clips_html(history.clips) + experts_html(history.experts) + predictions(history) +
         towers(history) + settings(history);
  return out + "<footer>Written by Bezel.</footer></main>\n<script>" + std::string(page_script()) +
         "</script></body></html>\n";
}

}  // namespace bezel::report
