#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace bezel::data {

/// Samples in rows: those of row r are samples[row_begin[r]] … samples[row_begin[r + 1] - 1].
struct SampleRows {
  std::vector<std::size_t> samples;
  std::vector<std::size_t> row_begin = {0};  ///< one more than rows

  std::size_t size() const { return row_begin.size() - 1; }
  /// The samples of rows `begin` … `end` - 1, as far as there are such rows.
  std::span<const std::size_t> rows(std::size_t begin, std::size_t end) const;
  void add_row(std::span<const std::size_t> row);
  /// The same rows, row order[i] at place i.
  SampleRows in_order(std::span<const std::size_t> order) const;
};

/// Every one of `samples` in a row of its own.
SampleRows one_a_row(std::vector<std::size_t> samples);

/// Puts samples, of which sample i has lengths[i] tokens, into rows of at most `row_tokens`: the longest first, each
/// into the first row that has enough free space. Samples of one row, and rows by their first sample, come in the order
/// of `samples`. The number of rows depends on the lengths alone. A sample that is longer than a row gets one to
/// itself.
SampleRows pack_rows(std::span<const std::size_t> samples, std::span<const std::size_t> lengths,
                     std::size_t row_tokens);

}  // namespace bezel::data
