#include "bezel/train/prefetch.h"

#include <chrono>
#include <condition_variable>
#include <exception>
#include <map>
#include <optional>
#include <thread>
#include <utility>

#include <ATen/Parallel.h>

#include "bezel/error.h"
#include "bezel/kernels/vector_math.h"

namespace bezel::train {
namespace {

using Clock = std::chrono::steady_clock;

// A decoder that is well ends within this; one that hangs must not keep the process.
constexpr std::chrono::seconds kShutdownPatience(2);

std::int64_t bytes_of(const Prefetch::Batches& batches) {
  std::int64_t bytes = 0;
  for (const data::Batch& batch : batches) bytes += batch.num_bytes();
  return bytes;
}

class NoNote final : public WorkNote {
 public:
  void begin(const std::string&) override {}
};

}  // namespace

// One step on its way.
struct Prefetch::Job {
  std::int64_t step = 0;
  std::string doing;
  Clock::time_point since = Clock::now();
  bool is_lost = false;  // the consumer has given up on the thread that makes it
  bool is_done = false;
  Batches batches;
  std::exception_ptr error;
};

// Outlives the Prefetch where a thread hangs.
struct Prefetch::Shared {
  Make make;
  PrefetchOptions options;
  std::int64_t end = 0;

  std::mutex mutex;  // of all below
  std::condition_variable worker_wakes, consumer_wakes;
  std::map<std::int64_t, std::shared_ptr<Job>> jobs;  // begun and not yet taken
  std::int64_t to_begin = 0, to_take = 0;             // the next step of each
  std::optional<std::int64_t> again;                  // a step whose thread is lost
  std::int64_t waiting_bytes = 0;
  std::int64_t num_threads = 0;  // but for lost ones
  bool stopping = false;

  bool may_begin() const {
    if (again) return true;
    if (to_begin >= end) return false;
    if (to_begin == to_take) return true;
    return to_begin - to_take < options.num_workers * options.max_ahead_per_worker && waiting_bytes < options.max_bytes;
  }

  std::shared_ptr<Job> begin() {
    const auto job = std::make_shared<Job>();
    job->step = again ? *again : to_begin++;
    again.reset();
    jobs[job->step] = job;
    consumer_wakes.notify_all();
    return job;
  }
};

namespace {

using Shared = Prefetch::Shared;
using Job = Prefetch::Job;

class JobNote final : public WorkNote {
 public:
  JobNote(Shared& shared, Job& job) : shared_(shared), job_(job) {}
  void begin(const std::string& what) override {
    const std::lock_guard lock(shared_.mutex);
    job_.doing = what;
    job_.since = Clock::now();
    shared_.consumer_wakes.notify_all();
  }

 private:
  Shared& shared_;
  Job& job_;
};

void make_job(Shared& shared, Job& job) {
  JobNote note(shared, job);
  try {
    job.batches = shared.make(job.step, note);
  } catch (...) {
    job.error = std::current_exception();
  }
}

void work(const std::shared_ptr<Shared>& shared) {
  // The cores are the step's. ATen and OpenMP keep the number for each thread.
  at::set_num_threads(1);
  std::unique_lock lock(shared->mutex);
  for (;;) {
    shared->worker_wakes.wait(lock, [&] { return shared->stopping || shared->may_begin(); });
    if (shared->stopping) break;
    const std::shared_ptr<Job> job = shared->begin();
    lock.unlock();
    make_job(*shared, *job);
    lock.lock();
    if (job->is_lost) return;
    job->is_done = true;
    shared->waiting_bytes += bytes_of(job->batches);
    shared->consumer_wakes.notify_all();
  }
  --shared->num_threads;
  shared->consumer_wakes.notify_all();
}

void start_thread(const std::shared_ptr<Shared>& shared) {
  ++shared->num_threads;
  std::thread([shared] { work(shared); }).detach();
}

}  // namespace

Prefetch::Prefetch(Make make, std::int64_t begin, std::int64_t end, PrefetchOptions options)
    : shared_(std::make_shared<Shared>()) {
  TORCH_CHECK(options.num_workers >= 0 && options.max_ahead_per_worker > 0, "no way to make batches");
  shared_->make = std::move(make);
  shared_->options = std::move(options);
  shared_->to_begin = shared_->to_take = begin;
  shared_->end = end;
  kernels::prepare_vector_math();  // before a worker and a step make the first calls at once
  const std::lock_guard lock(shared_->mutex);
  for (std::int64_t i = 0; i < shared_->options.num_workers; ++i) start_thread(shared_);
}

Prefetch::~Prefetch() {
  std::unique_lock lock(shared_->mutex);
  shared_->stopping = true;
  shared_->worker_wakes.notify_all();
  shared_->consumer_wakes.wait_for(lock, kShutdownPatience, [&] { return shared_->num_threads == 0; });
}

Prefetch::Batches Prefetch::next() {
  Shared& shared = *shared_;
  TORCH_CHECK(shared.to_take < shared.end, "all ", shared.end, " steps were taken");
  if (shared.options.num_workers == 0) {
    NoNote note;
    return shared.make(shared.to_take++, note);
  }
  const auto timeout =
      std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(shared.options.timeout_s));
  std::unique_lock lock(shared.mutex);
  for (;;) {
    const auto found = shared.jobs.find(shared.to_take);
    if (found == shared.jobs.end() || (!found->second->is_done && shared.options.timeout_s <= 0)) {
      shared.consumer_wakes.wait(lock);
    } else if (const std::shared_ptr<Job> job = found->second; job->is_done) {
      shared.jobs.erase(found);
      ++shared.to_take;
      shared.waiting_bytes -= bytes_of(job->batches);
      shared.worker_wakes.notify_all();
      if (job->error) std::rethrow_exception(job->error);
      return std::move(job->batches);
    } else if (const auto deadline = job->since + timeout; Clock::now() < deadline) {
      shared.consumer_wakes.wait_until(lock, deadline);
    } else {
      job->is_lost = true;
      --shared.num_threads;
      const std::string what = job->doing;
      lock.unlock();
      give_up(what);
      lock.lock();
      shared.jobs.erase(shared.to_take);
      shared.again = shared.to_take;
      start_thread(shared_);
    }
  }
}

void Prefetch::give_up(const std::string& what) const {
  const PrefetchOptions& options = shared_->options;
  const Error error(what, ": not read and decoded after ", options.timeout_s,
                    " s. Does the file's disk hang? data_timeout allows more, skip_bad_samples: true leaves such "
                    "samples out");
  if (!options.skip_sample || !options.skip_sample(what, error.what())) throw Error(error);
}

}  // namespace bezel::train
