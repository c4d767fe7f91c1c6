#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "bezel/train/run.h"

namespace bezel::cli {

/// What to say of a checkpoint that could not be written.
std::string save_failed_text(const std::string& why);

/// Events that say on stderr what no run should be without: its warnings, and saves that failed.
train::RunEvents warning_events();

/// Shows a run on stderr: a bar that moves on a terminal, plain lines elsewhere.
class Progress {
 public:
  Progress();

  void start(const train::RunPlan& plan);
  void step(const train::StepReport& report);
  void evaluation(const train::EvalReport& report);
  void saved(const std::string& folder);
  void save_failed(const std::string& why);
  void left_out(const std::string& why);
  void reference(std::size_t done, std::size_t total);
  /// Ends the bar's line.
  void finish();

 private:
  void line(const std::string& text);

  bool is_terminal_;
  bool has_bar_ = false;
  std::vector<double> losses_;  // for the curve beside the bar
};

}  // namespace bezel::cli
