#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "bezel/io/divide_up.h"
#include "bezel/kernels/packed_gemm.h"

namespace bezel::kernels {

/// [first, end), of rows or of keys.
struct Span {
  std::int64_t first, end;
  bool empty() const { return end <= first; }
  std::int64_t size() const { return std::max<std::int64_t>(end - first, 0); }
};

/// Whole tiles of keys: runs in ascending order that are apart from each other, and their places side by side without
/// what is between them.
class TileRuns {
 public:
  static constexpr std::int64_t kTile = PackedB::kWidth;

  /// To whole tiles.
  static std::int64_t rounded_up(std::int64_t value) { return io::round_up(value, kTile); }

  void clear() { runs_.clear(), tiles_.clear(); }
  /// The tiles that hold `keys`, if there are any.
  void add(Span keys) {
    if (!keys.empty()) runs_.push_back({keys.first / kTile * kTile, rounded_up(keys.end)});
  }
  void add(const TileRuns& other) { runs_.insert(runs_.end(), other.runs_.begin(), other.runs_.end()); }
  /// Joins runs that touch; to be called behind the last add().
  void join() {
    std::ranges::sort(runs_, {}, &Span::first);
    std::size_t last = 0;
    for (std::size_t i = 1; i < runs_.size(); ++i) {
      if (runs_[i].first <= runs_[last].end)
        runs_[last].end = std::max(runs_[last].end, runs_[i].end);
      else
        runs_[++last] = runs_[i];
    }
    runs_.resize(std::min(runs_.size(), last + 1));
    for (const Span& run : runs_)
      for (std::int64_t key = run.first; key < run.end; key += kTile) tiles_.push_back(key);
  }

  /// Each of whole tiles.
  const std::vector<Span>& runs() const { return runs_; }
  /// The first key of each tile.
  const std::vector<std::int64_t>& tiles() const { return tiles_; }
  std::int64_t size() const { return static_cast<std::int64_t>(tiles_.size()) * kTile; }
  bool holds(std::int64_t key) const {
    return std::ranges::any_of(runs_, [key](const Span& run) { return run.first <= key && key < run.end; });
  }
  /// Place of a key that it holds among all that it holds.
  std::int64_t place(std::int64_t key) const {
    std::int64_t before = 0;
    for (const Span& run : runs_) {
      if (key < run.end) return before + key - run.first;
      before += run.size();
    }
    return before;
  }

 private:
  std::vector<Span> runs_;
  std::vector<std::int64_t> tiles_;
};

}  // namespace bezel::kernels
