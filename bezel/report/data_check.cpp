#include "bezel/report/data_check.h"

#include <algorithm>
#include <numeric>
#include <optional>

#include <ATen/Parallel.h>

#include "bezel/error.h"

namespace bezel::report {
namespace {

// A strip is checked in parallel, then counted and reported.
constexpr std::size_t kStripSamples = 64;

// The smallest of 1, 2, 5, 10, 20, 50 … that is not below `width`.
std::size_t round_width(std::size_t width) {
  for (std::size_t power = 1;; power *= 10)
    for (const std::size_t factor : {1, 2, 5})
      if (factor * power >= width) return factor * power;
}

std::optional<std::string> media_problem(const data::Dataset& data, std::size_t idx) {
  try {
    data.load(idx);
    return std::nullopt;
  } catch (const Error& error) {
    return error.what();
  }
}

void count(const data::SampleSize& size, DataCheck& check) {
  check.lengths.push_back(size.tokens);
  check.label_tokens += size.label_tokens;
  for (const input::MediaKind kind : input::kMediaKinds) {
    check.media[kind].items += size.media[kind].items;
    check.media[kind].soft_tokens += size.media[kind].soft_tokens;
  }
}

}  // namespace

std::vector<LengthBin> length_histogram(std::span<const std::size_t> lengths, std::size_t max_bins) {
  if (lengths.empty() || max_bins == 0) return {};
  const auto [shortest, longest] = std::ranges::minmax(lengths);
  std::size_t width = round_width((longest - shortest) / max_bins + 1);
  // Bins begin at multiples of their width, which may take one more than the range would.
  while (longest / width - shortest / width + 1 > max_bins) width = round_width(width + 1);
  const std::size_t first = shortest / width;
  std::vector<LengthBin> bins(longest / width - first + 1);
  for (std::size_t i = 0; i < bins.size(); ++i) bins[i] = {(first + i) * width, (first + i + 1) * width - 1, 0};
  for (const std::size_t length : lengths) ++bins[length / width - first].count;
  return bins;
}

std::size_t DataCheck::tokens() const { return std::accumulate(lengths.begin(), lengths.end(), std::size_t{0}); }

DataCheck check_data(const data::Dataset& data, const std::function<void(std::size_t, std::size_t)>& on_progress) {
  DataCheck check;
  for (std::size_t begin = 0; begin < data.size(); begin += kStripSamples) {
    const std::size_t end = std::min(data.size(), begin + kStripSamples);
    std::vector<std::optional<std::string>> problems(end - begin);
    at::parallel_for(0, static_cast<std::int64_t>(end - begin), 1, [&](std::int64_t from, std::int64_t to) {
      for (auto i = static_cast<std::size_t>(from); i < static_cast<std::size_t>(to); ++i) {
        if (data.sample_size(begin + i).has_media()) problems[i] = media_problem(data, begin + i);
      }
    });
    for (std::size_t i = begin; i < end; ++i) count(data.sample_size(i), check);
    for (std::optional<std::string>& problem : problems)
      if (problem) check.bad_media.push_back(std::move(*problem));
    if (on_progress) on_progress(end, data.size());
  }
  return check;
}

}  // namespace bezel::report
