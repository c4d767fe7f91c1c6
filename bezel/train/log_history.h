#pragma once

#include <optional>
#include <string>
#include <vector>

#include "bezel/io/json.h"

namespace bezel::train {

/// The log_history of trainer_state.json. Kept as text: a long run has many rows, and as parsed JSON each takes four
/// times the memory.
class LogHistory {
 public:
  void add(const io::Json& row);
  /// Replaces all rows by those of an array; throws Error when it is not an array.
  void restore(const io::JsonView& rows);
  /// The rows as a JSON array.
  std::string text() const;
  /// eval_loss of the last row that has one.
  std::optional<double> last_eval_loss() const { return last_eval_loss_; }

 private:
  std::vector<std::string> rows_;
  std::optional<double> last_eval_loss_;
};

}  // namespace bezel::train
