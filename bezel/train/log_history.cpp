#include "bezel/train/log_history.h"

namespace bezel::train {

void LogHistory::add(const io::Json& row) {
  rows_.push_back(row.dump());
  rows_.back().shrink_to_fit();
  if (const auto found = row.find("eval_loss"); found != row.end() && found->is_number())
    last_eval_loss_ = found->get<double>();
}

void LogHistory::restore(const io::JsonView& rows) {
  rows_.clear();
  last_eval_loss_.reset();
  for (const io::JsonView& row : rows.elements()) {
    if (!row.is_object()) row.fail("an object");
    add(row.value());
  }
}

std::string LogHistory::text() const {
  std::size_t bytes = 2;
  for (const std::string& row : rows_) bytes += row.size() + 6;
  std::string text = "[";
  text.reserve(bytes);
  for (const std::string& row : rows_) text += (text.size() > 1 ? ",\n    " : "\n    ") + row;
  return text + "]";
}

}  // namespace bezel::train
