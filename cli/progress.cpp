#include "cli/progress.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include <unistd.h>

#include "bezel/lora/config.h"
#include "bezel/report/sparkline.h"
#include "cli/command.h"
#include "cli/one_line.h"

namespace bezel::cli {
namespace {

constexpr int kBarCells = 20;
constexpr std::size_t kProgressCells = 16;

std::string time_text(double seconds) {
  const auto whole = static_cast<long long>(std::max(0.0, std::round(seconds)));
  char buffer[32];
  if (whole >= 3600)
    std::snprintf(buffer, sizeof buffer, "%lld:%02lld:%02lld", whole / 3600, whole / 60 % 60, whole % 60);
  else
    std::snprintf(buffer, sizeof buffer, "%lld:%02lld", whole / 60, whole % 60);
  return buffer;
}

std::string bar(const train::StepReport& report) {
  const auto done = static_cast<int>(kBarCells * report.step / std::max<std::int64_t>(1, report.total_steps));
  std::string text;
  for (int i = 0; i < kBarCells; ++i) text += i < done ? "█" : "░";
  return text;
}

// What training by preference is judged by: "  margin 0.120  accuracy 75%".
std::string preference_text(const std::map<std::string, double>& metrics) {
  std::string text;
  char buffer[64];
  if (const auto margin = metrics.find("rewards/margins"); margin != metrics.end()) {
    std::snprintf(buffer, sizeof buffer, "  margin %.3f", margin->second);
    text += buffer;
  }
  if (const auto accuracy = metrics.find("rewards/accuracies"); accuracy != metrics.end()) {
    std::snprintf(buffer, sizeof buffer, "  accuracy %.0f%%", 100 * accuracy->second);
    text += buffer;
  }
  return text;
}

std::string numbers(const train::StepReport& report) {
  char buffer[260];
  std::snprintf(buffer, sizeof buffer, "loss %.4f%s  lr %.2e  grad %.3f  %.0f tok/s  left %s  peak %s", report.loss,
                preference_text(report.metrics).c_str(), report.learning_rate, report.grad_norm, report.tokens_per_s,
                time_text(report.seconds_left).c_str(),
                bytes_text(static_cast<double>(report.peak_memory_bytes)).c_str());
  std::string text = buffer;
  if (report.skipped_steps > 0) text += "  skipped " + std::to_string(report.skipped_steps);
  return text;
}

std::string data_text(const train::RunPlan& plan) {
  std::string text = counted(plan.num_samples, "sample");
  if (plan.num_packed_rows > 0) text += " packed into " + counted(plan.num_packed_rows, "row");
  if (plan.num_eval_samples > 0) text += ", " + with_commas(plan.num_eval_samples) + " held out";
  if (plan.data.num_bad > 0) text += ", " + std::to_string(plan.data.num_bad) + " bad left out";
  if (plan.data.num_too_long > 0) text += ", " + std::to_string(plan.data.num_too_long) + " too long left out";
  if (plan.data.num_cut > 0) text += ", " + std::to_string(plan.data.num_cut) + " cut at their end";
  return text;
}

}  // namespace

std::string save_failed_text(const std::string& why) {
  return "no checkpoint was written, training goes on and tries again later: " + why;
}

train::RunEvents warning_events() {
  const auto warn = [](const std::string& text) { std::fprintf(stderr, "warning: %s\n", one_line(text).c_str()); };
  train::RunEvents events;
  events.on_start = [warn](const train::RunPlan& plan) { std::ranges::for_each(plan.warnings, warn); };
  events.on_save_failed = [warn](const std::string& why) { warn(save_failed_text(why)); };
  events.on_left_out = [warn](const std::string& why) { warn("left out: " + why); };
  return events;
}

Progress::Progress() : is_terminal_(::isatty(STDERR_FILENO) == 1) {}

void Progress::line(const std::string& text) {
  // Over a bar: back to the line's begin, and clear it.
  std::fprintf(stderr, "%s%s\n", has_bar_ ? "\r\033[K" : "", one_line(text).c_str());
  has_bar_ = false;
}

void Progress::start(const train::RunPlan& plan) {
  char row[96];
  std::snprintf(row, sizeof row, "%-12s %7s %22s", "tower", "layers", "trainable parameters");
  line(row);
  for (const lora::TowerCount& count : plan.towers) {
    std::snprintf(row, sizeof row, "%-12s %7s %22s", std::string(lora::tower_name(count.tower)).c_str(),
                  with_commas(count.layers).c_str(),
                  count.layers == 0 ? "stay frozen" : with_commas(count.parameters).c_str());
    line(row);
  }
  line(data_text(plan));
  for (const std::string& bad : plan.data.bad) line("  left out: " + bad);
  for (const std::string& warning : plan.warnings) line("warning: " + warning);
  for (const std::string& note : plan.notes) line("note: " + note);
  if (plan.steps_done > 0) line("resumed after step " + with_commas(plan.steps_done));
  line(with_commas(plan.total_steps) + " steps, " + with_commas(plan.steps_per_epoch) + " an epoch, on " + plan.device);
}

void Progress::step(const train::StepReport& report) {
  const std::string count = std::to_string(report.step) + "/" + std::to_string(report.total_steps);
  if (!is_terminal_) {
    line("step " + count + "  " + numbers(report));
    return;
  }
  losses_.push_back(report.loss);
  std::fprintf(stderr, "\r\033[K%s %s  %s  %s", bar(report).c_str(), count.c_str(),
               report::sparkline(losses_, kProgressCells).c_str(), numbers(report).c_str());
  std::fflush(stderr);
  has_bar_ = true;
}

void Progress::evaluation(const train::EvalReport& report) {
  char row[96];
  std::snprintf(row, sizeof row, "step %lld  held-out loss %.4f", static_cast<long long>(report.step), report.loss);
  std::string text = row;
  const auto add = [&](const char* name, const std::optional<double>& share) {
    if (!share) return;
    std::snprintf(row, sizeof row, "  %s %.1f%%", name, *share * 100);
    text += row;
  };
  add("token accuracy", report.accuracy);
  add("exact match", report.exact_match);
  line(text + preference_text(report.metrics));
}

void Progress::reference(std::size_t done, std::size_t total) {
  if (is_terminal_) {
    std::fprintf(stderr, "\r\033[Kreference %zu/%zu", done, total);
    std::fflush(stderr);
    has_bar_ = true;
  }
  if (done == total) line("the reference has answered " + with_commas(static_cast<std::int64_t>(total)) + " samples");
}

void Progress::left_out(const std::string& why) { line("left out: " + why); }

void Progress::save_failed(const std::string& why) { line("warning: " + save_failed_text(why)); }

void Progress::saved(const std::string& folder) { line("saved " + folder); }

void Progress::finish() {
  if (has_bar_) std::fprintf(stderr, "\n");
  has_bar_ = false;
}

}  // namespace bezel::cli
