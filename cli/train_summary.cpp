#include "cli/train_summary.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <vector>

#include "bezel/report/html_text.h"
#include "bezel/report/sparkline.h"
#include "cli/command.h"

namespace bezel::cli {
namespace {

constexpr std::size_t kCurveCells = 40;

std::string row(const std::string& name, const std::string& text) {
  return name + std::string(name.size() < 12 ? 12 - name.size() : 1, ' ') + text + "\n";
}

// One line of a text, shortened at the begin of a character.
std::string one_line(std::string text) {
  constexpr std::size_t kMost = 70;
  std::ranges::replace_if(
      text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, ' ');
  if (text.size() <= kMost) return text;
  std::size_t end = kMost;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end) + "…";
}

// The first samples' answers; the page and predictions.jsonl have all.
std::string prediction_rows(const report::RunHistory& history) {
  constexpr std::size_t kShown = 2;
  std::string out;
  for (std::size_t i = 0; i < std::min(kShown, history.predictions.size()); ++i) {
    const report::Prediction& item = history.predictions[i];
    out += row("asked", one_line(report::asked_text(item.prompt))) + row("  wanted", one_line(item.wanted)) +
           row("  before", one_line(item.before)) + row("  after", one_line(item.after));
  }
  return out;
}

// How sure the model has become of what is preferred, in the held-out samples where there are some.
std::string preference_rows(const report::RunHistory& history) {
  std::string out;
  const auto add = [&](const std::string& name, const std::vector<report::Preference>& rows) {
    if (rows.empty() || !std::isfinite(rows.back().margin)) return;
    std::string text = report::number_text(rows.front().margin) + " → " + report::number_text(rows.back().margin);
    if (std::isfinite(rows.back().accuracy))
      text += ", accuracy " + report::number_text(100 * rows.front().accuracy, 3) + " % → " +
              report::number_text(100 * rows.back().accuracy, 3) + " %";
    out += row(name, text);
  };
  std::vector<report::Preference> steps, evals;
  for (const report::StepRow& step : history.steps) steps.push_back(step.preference);
  for (const report::EvalRow& eval : history.evals) evals.push_back(eval.preference);
  add("margin", steps);
  add("held out", evals);
  return out;
}

// "2.306 → 0.921   lowest 0.88" and the curve below it.
std::string curve_rows(const std::string& name, const std::vector<double>& values) {
  std::vector<double> finite;
  std::ranges::copy_if(values, std::back_inserter(finite), [](double value) { return std::isfinite(value); });
  if (finite.empty()) return "";
  std::string out = row(name, report::number_text(finite.front()) + " → " + report::number_text(finite.back()) +
                                  ", lowest " + report::number_text(*std::ranges::min_element(finite)));
  if (finite.size() > 2) out += row("", report::sparkline(finite, kCurveCells));
  return out;
}

}  // namespace

std::string summary_text(const report::RunHistory& history, const train::RunResult& result) {
  const train::TrainSummary& summary = result.summary;
  if (result.adapter.empty()) return "stopped before the first step; what the reference has answered is kept\n";
  std::vector<double> losses, held_out;
  double memory_bytes = 0;
  for (const report::StepRow& step : history.steps) {
    losses.push_back(step.loss);
    memory_bytes = std::max(memory_bytes, step.memory_bytes);
  }
  for (const report::EvalRow& eval : history.evals) held_out.push_back(eval.loss);
  std::string steps = with_commas(summary.steps) + " in " + report::duration_text(summary.seconds);
  if (summary.skipped_steps > 0) steps += ", " + with_commas(summary.skipped_steps) + " skipped";
  if (summary.stopped) steps += ", stopped by a signal";
  if (summary.stopped_early) steps += ", stopped early";
  std::string out = curve_rows("loss", losses) + curve_rows("held out", held_out) + row("steps", steps);
  out += preference_rows(history);
  const double speed = static_cast<double>(summary.num_tokens) / std::max(summary.seconds, 1e-9);
  out += row("tokens", with_commas(summary.num_tokens) + ", " + report::number_text(speed, 3) + " a second");
  out += row("memory", "at most " + bytes_text(memory_bytes)) + row("adapter", result.adapter);
  if (summary.best_loaded) out += row("", "of step " + with_commas(summary.best_loaded->step) + ", the best");
  out += prediction_rows(history);
  const std::filesystem::path page = std::filesystem::path(result.adapter) / "report.html";
  std::error_code error;
  if (std::filesystem::exists(page, error)) out += row("report", page.string());
  return out;
}

}  // namespace bezel::cli
