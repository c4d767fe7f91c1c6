#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "bezel/data/column_map.h"
#include "bezel/data/jsonl.h"

namespace bezel::data {

/// One file of samples of a data set.
struct SampleFile {
  std::string path;
  std::string media_root = {};  ///< empty: the folder of `path`
  ColumnMap columns = {};
  std::optional<std::size_t> max_samples = {};  ///< only the first ones
  double first_share = 1.0;                     ///< only this share of them, from the first on
  double weight = 1.0;                          ///< times that an epoch visits them; 0.5: every second one
};

/// The lines of several files, one after the other, found by index and read one by one.
class SampleFiles {
 public:
  /// At least one file. Throws as JsonlFile does.
  explicit SampleFiles(std::vector<SampleFile> files);

  std::size_t size() const { return begins_.back(); }
  std::size_t num_files() const { return files_.size(); }
  const SampleFile& file(std::size_t file_idx) const { return files_[file_idx]; }
  /// Which file line `idx` is in.
  std::size_t file_idx(std::size_t idx) const;

  /// As JsonlFile: the number of the line in its file, "path:line", the text.
  std::size_t line_number(std::size_t idx) const;
  std::string source(std::size_t idx) const;
  std::string read(std::size_t idx) const;
  /// Line `idx` as JSON, under the names that read_sample knows. Throws Error starting with its source.
  io::Json read_json(std::size_t idx) const;
  /// Of the bytes of one file read as it is; of several, or with names of their own, of these too.
  std::string sha256() const;

 private:
  std::size_t line_idx(std::size_t idx) const { return idx - begins_[file_idx(idx)]; }

  std::vector<SampleFile> files_;
  std::vector<JsonlFile> texts_;
  std::vector<std::size_t> begins_ = {0};  // index of each file's first line, and the number of all lines
};

}  // namespace bezel::data
