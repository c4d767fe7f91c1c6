#include "bezel/data/packing.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <numeric>

namespace bezel::data {
namespace {

// What is free in each of many rows, as a tree of maxima: the first row with enough free space is found by walking
// down.
class FreeTokens {
 public:
  FreeTokens(std::size_t num_rows, std::size_t row_tokens)
      : num_leaves_(std::bit_ceil(std::max<std::size_t>(1, num_rows))), most_(2 * num_leaves_, row_tokens) {}

  /// Takes `tokens` of the first row that has as many; returns its number.
  std::size_t take(std::size_t tokens) {
    std::size_t node = 1;
    while (node < num_leaves_) node = most_[2 * node] >= tokens ? 2 * node : 2 * node + 1;
    most_[node] -= tokens;
    const std::size_t row = node - num_leaves_;
    while (node > 1) {
      node /= 2;
      most_[node] = std::max(most_[2 * node], most_[2 * node + 1]);
    }
    return row;
  }

 private:
  std::size_t num_leaves_;
  std::vector<std::size_t> most_;  // [1] the root; the children of n are 2n and 2n + 1
};

}  // namespace

std::span<const std::size_t> SampleRows::rows(std::size_t begin, std::size_t end) const {
  const std::size_t first = row_begin[std::min(begin, size())], last = row_begin[std::min(end, size())];
  return std::span(samples).subspan(first, last - first);
}

void SampleRows::add_row(std::span<const std::size_t> row) {
  samples.insert(samples.end(), row.begin(), row.end());
  row_begin.push_back(samples.size());
}

SampleRows SampleRows::in_order(std::span<const std::size_t> order) const {
  SampleRows out;
  for (const std::size_t row : order) out.add_row(rows(row, row + 1));
  return out;
}

SampleRows one_a_row(std::vector<std::size_t> samples) {
  SampleRows rows;
  rows.row_begin.resize(samples.size() + 1);
  std::iota(rows.row_begin.begin(), rows.row_begin.end(), std::size_t{0});
  rows.samples = std::move(samples);
  return rows;
}

SampleRows pack_rows(std::span<const std::size_t> samples, std::span<const std::size_t> lengths,
                     std::size_t row_tokens) {
  std::vector<std::size_t> by_length(samples.size());
  std::iota(by_length.begin(), by_length.end(), std::size_t{0});
  std::ranges::stable_sort(by_length, std::ranges::greater(),
                           [&](std::size_t place) { return lengths[samples[place]]; });
  FreeTokens free(samples.size(), row_tokens);
  std::vector<std::size_t> row_of(samples.size());
  for (const std::size_t place : by_length) row_of[place] = free.take(std::min(lengths[samples[place]], row_tokens));
  // Rows by their first sample: the number of a row is the place of that sample among the firsts.
  std::vector<std::vector<std::size_t>> rows;
  std::vector<std::size_t> number(samples.size(), samples.size());
  for (std::size_t place = 0; place < samples.size(); ++place) {
    std::size_t& row = number[row_of[place]];
    if (row == samples.size()) {
      row = rows.size();
      rows.emplace_back();
    }
    rows[row].push_back(samples[place]);
  }
  SampleRows out;
  for (const auto& row : rows) out.add_row(row);
  return out;
}

}  // namespace bezel::data
