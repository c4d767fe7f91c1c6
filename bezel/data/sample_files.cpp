#include "bezel/data/sample_files.h"

#include <algorithm>
#include <cmath>

#include "bezel/error.h"
#include "bezel/io/sha256.h"

namespace bezel::data {
namespace {

std::string folder_of(const std::string& path) {
  const auto slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::size_t lines_used(const SampleFile& file, std::size_t num_lines) {
  const auto share = static_cast<std::size_t>(std::floor(file.first_share * static_cast<double>(num_lines)));
  return std::min({num_lines, share, file.max_samples.value_or(num_lines)});
}

bool is_plain(const SampleFile& file) {
  return file.columns.empty() && !file.max_samples && file.first_share == 1.0 && file.weight == 1.0;
}

}  // namespace

SampleFiles::SampleFiles(std::vector<SampleFile> files) : files_(std::move(files)) {
  for (SampleFile& file : files_) {
    if (file.media_root.empty()) file.media_root = folder_of(file.path);
    texts_.emplace_back(file.path);
    begins_.push_back(begins_.back() + lines_used(file, texts_.back().size()));
  }
}

std::size_t SampleFiles::file_idx(std::size_t idx) const {
  return static_cast<std::size_t>(std::ranges::upper_bound(begins_, idx) - begins_.begin()) - 1;
}

std::size_t SampleFiles::line_number(std::size_t idx) const { return texts_[file_idx(idx)].line_number(line_idx(idx)); }

std::string SampleFiles::source(std::size_t idx) const { return texts_[file_idx(idx)].source(line_idx(idx)); }

std::string SampleFiles::read(std::size_t idx) const { return texts_[file_idx(idx)].read(line_idx(idx)); }

io::Json SampleFiles::read_json(std::size_t idx) const {
  const std::string source = this->source(idx);
  io::JsonLimits limits;
  limits.max_bytes = kMaxLineBytes;
  limits.keeps_big_integers = true;
  io::Json line = io::parse_json(read(idx), source, limits);
  const ColumnMap& columns = files_[file_idx(idx)].columns;
  return columns.empty() ? line : apply_column_map(io::JsonView(line, source), columns);
}

std::string SampleFiles::sha256() const {
  if (files_.size() == 1 && is_plain(files_[0])) return texts_[0].sha256();
  io::Sha256 hash;
  for (std::size_t i = 0; i < files_.size(); ++i)
    hash.update(texts_[i].sha256() + "\n" + std::to_string(begins_[i + 1] - begins_[i]) + "\n" +
                std::to_string(files_[i].weight) + "\n" + to_text(files_[i].columns));
  return hash.finish();
}

}  // namespace bezel::data
