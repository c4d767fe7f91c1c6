#pragma once

#include <string>
#include <vector>

#include "bezel/train/run.h"

namespace bezel::cli {

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
  /// Ends the bar's line.
  void finish();

 private:
  void line(const std::string& text);

  bool is_terminal_;
  bool has_bar_ = false;
  std::vector<double> losses_;  // for the curve beside the bar
};

}  // namespace bezel::cli
