#include "bezel/train/sample_log.h"

#include <algorithm>
#include <filesystem>
#include <sstream>

#include "bezel/input/sample_key.h"
#include "bezel/io/json.h"
#include "bezel/io/regular_file.h"

namespace bezel::train {
namespace {

using io::Json;

constexpr std::size_t kRowsOfSample = 2;  // a pair has two
constexpr std::uint64_t kMostPositions = std::uint64_t{1} << 21;

// Lines of the updates that a resumed run has behind it; a line that a killed run left unfinished is none.
std::string lines_until(const std::string& path, std::int64_t steps_done) {
  std::error_code error;
  if (steps_done == 0 || !std::filesystem::exists(path, error)) return "";
  std::istringstream lines(io::read_text_file(path));
  std::string kept;
  for (std::string line; std::getline(lines, line);) {
    const Json row = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!row.is_object() || !row.contains("step") || !row["step"].is_number_integer()) continue;
    if (row["step"].get<std::int64_t>() <= steps_done) kept += line + "\n";
  }
  return kept;
}

}  // namespace

SampleLog::SampleLog(const data::Dataset& samples) : samples_(samples) {
  for (std::size_t idx = 0; idx < samples.size(); ++idx)
    for (std::size_t row = 0; row < kRowsOfSample; ++row) sample_of_.emplace(input::sample_key(idx, row), idx);
}

void SampleLog::begin(const std::string& path, std::int64_t steps_done) {
  file_.begin(path, lines_until(path, steps_done));
}

// A position's key is its sample's plus the position, so a sample is the nearest key below.
std::vector<std::string> SampleLog::sources_of(const data::Batch& batch) const {
  std::vector<std::string> sources;
  const torch::Tensor keys = batch.flat_row_keys().contiguous();
  std::uint64_t last = 0;
  for (std::int64_t i = 0; i < keys.numel(); ++i) {
    const auto key = static_cast<std::uint64_t>(keys.const_data_ptr<std::int64_t>()[i]);
    const bool goes_on = i > 0 && key == last + 1;
    last = key;
    auto found = sample_of_.upper_bound(key);
    if (goes_on || found == sample_of_.begin() || key - (--found)->first >= kMostPositions) continue;
    std::string source = samples_.source(found->second);
    if (std::ranges::find(sources, source) == sources.end()) sources.push_back(std::move(source));
  }
  return sources;
}

void SampleLog::add(std::int64_t step, std::span<const data::Batch> batches, ProcessGroup& group) {
  Json mine = Json::array();
  for (const data::Batch& batch : batches)
    for (std::string& source : sources_of(batch)) mine.push_back(std::move(source));
  Json all = Json::array();
  for (const std::string& text : group.gather(mine.dump())) all.push_back(Json::parse(text));
  if (group.is_first()) file_.add({{"step", step}, {"samples", std::move(all)}});
}

}  // namespace bezel::train
