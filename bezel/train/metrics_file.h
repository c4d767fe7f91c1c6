#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "bezel/io/json.h"

namespace bezel::train {

/// `value` as JSON, which has no NaN and no Inf: null for these.
io::Json json_number(double value);
/// `row` with the metrics added, `prefix` before their names.
io::Json with_metrics(io::Json row, const std::map<std::string, double>& metrics, const std::string& prefix = "");

/// A file of one JSON object a line, appended during a run. A full disk does not stop a run: lines that
/// cannot be written are kept, and written with the next.
class MetricsFile {
 public:
  /// Replaces `path` by `text`. Throws Error (kIo).
  void begin(const std::string& path, const std::string& text);
  /// Appends a line, or nothing before begin().
  void add(const io::Json& line);
  /// Everything added so far and what it began with. Throws Error (kIo).
  std::string text() const;
  /// Throws Error (kIo) when lines are left that cannot be written.
  void finish();

 private:
  bool flush();

  std::string path_;
  std::uint64_t written_bytes_ = 0;
  std::string pending_;
};

}  // namespace bezel::train
