#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bezel/data/batch.h"

namespace bezel::train {

/// Lets a worker report the sample that it is decoding, so that a timeout can name it.
class WorkNote {
 public:
  virtual ~WorkNote() = default;
  /// Begins with `what`, such as "file:line"; its time counts from now.
  virtual void begin(const std::string& what) = 0;
};

struct PrefetchOptions {
  std::int64_t num_workers = 1;           ///< threads; 0: the caller's own, when batches are asked for
  double timeout_s = 0.0;                 ///< for each thing that is begun; 0: for ever. Needs a worker
  std::int64_t max_bytes = 256LL << 20;   ///< of batches that wait; no step is begun when they are more
  std::int64_t max_ahead_per_worker = 2;  ///< steps that are made or wait
  /// Asked about what takes too long; true: make the step again, now without it.
  std::function<bool(const std::string& what, const std::string& why)> skip_sample = {};
};

/// Makes the batches of steps ahead of time, on threads of its own with one thread of arithmetic each. They come out in
/// their order, with the exceptions that came instead of them. A thread that hangs is left behind: neither the next
/// step nor the end of the process waits for it, so `make` must own what it uses.
class Prefetch {
 public:
  using Batches = std::vector<data::Batch>;
  /// The batches of step n, the same whenever and on whatever thread it is called.
  using Make = std::function<Batches(std::int64_t step, WorkNote& note)>;

  /// For steps `begin` … `end` - 1.
  Prefetch(Make make, std::int64_t begin, std::int64_t end, PrefetchOptions options);
  Prefetch(const Prefetch&) = delete;
  Prefetch& operator=(const Prefetch&) = delete;
  /// Waits a moment for the threads, no longer.
  ~Prefetch();

  /// The batches of the next step. Throws what `make` threw, and Error naming what took longer than timeout_s unless
  /// skip_sample() says to make the step again.
  Batches next();

  struct Job;
  struct Shared;

 private:
  void give_up(const std::string& what) const;

  std::shared_ptr<Shared> shared_;
};

}  // namespace bezel::train
