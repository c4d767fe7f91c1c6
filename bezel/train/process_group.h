#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bezel/error.h"

namespace bezel::train {

/// Which of `size` equal parts of a run's work is meant: items rank, rank + size, …
struct Share {
  std::int64_t rank = 0;
  std::int64_t size = 1;

  /// How many of `count` items.
  std::int64_t of(std::int64_t count) const { return (count - rank + size - 1) / size; }
};

/// The processes (ranks) that train one model together. All but rank(), size(), host() and waited_s() are collective:
/// every rank calls them in the same order, and waits for the others.
class ProcessGroup {
 public:
  virtual ~ProcessGroup() = default;
  virtual std::int64_t rank() const = 0;
  virtual std::int64_t size() const = 0;
  /// Of rank `rank`.
  virtual std::string host(std::int64_t rank) const = 0;
  /// Sums `values` over the ranks, in their order: the same bits on every rank, and in every run with as many ranks.
  virtual void sum(float* values, std::size_t count) = 0;
  /// The same for bfloat16 `values`: half the traffic. Each sum is rounded once more; what that left out is added to
  /// `error`, float32 [count], of the one rank that rounded it.
  virtual void sum_bfloat16(std::uint16_t* values, std::size_t count, float* error) = 0;
  /// Every rank's `text`, by rank.
  virtual std::vector<std::string> gather(const std::string& text) = 0;
  virtual void barrier() = 0;
  /// Seconds that this process has waited for others so far.
  virtual double waited_s() const = 0;

  bool is_first() const { return rank() == 0; }
  Share share() const { return {rank(), size()}; }
  /// "rank 3 on host node7".
  std::string name(std::int64_t rank) const;
};

/// A process alone.
ProcessGroup& single_process();

/// Whether `value` is true on any rank; collective.
bool any_rank(ProcessGroup& group, bool value);

/// Throws Error (`kind`) on every rank, naming the first whose `text` is not that of rank 0, and what `difference`
/// makes of both; collective.
void check_alike(ProcessGroup& group, const std::string& text, ErrorKind kind,
                 const std::function<std::string(const std::string& first, const std::string& other)>& difference);

/// Where an action failed on one rank, that rank's Error on every rank, with its name; collective.
void agree_on_error(ProcessGroup& group, const std::optional<Error>& error);

/// make(); an Error on one rank is thrown on all. Collective.
template <typename Make>
auto together(ProcessGroup& group, Make make) {
  if (group.size() == 1) return make();
  std::optional<decltype(make())> made;
  std::optional<Error> error;
  try {
    made.emplace(make());
  } catch (const Error& failed) {
    error.emplace(failed);
  }
  agree_on_error(group, error);
  return std::move(*made);
}

}  // namespace bezel::train
