#include "bezel/train/prefetch.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "bezel/error.h"
#include "tests/support/temp_folder.h"

namespace bezel::train {
namespace {

using test::error_of;
using test::says;

Prefetch::Batches batches_of(std::int64_t step, std::int64_t kib = 0) {
  data::Batch batch;
  batch.num_tokens = step;
  batch.input_ids = at::zeros({1, kib * 128}, at::kLong);
  return {batch};
}

/// Holds whoever passes until it opens; shared with threads that may outlive the test.
class Gate {
 public:
  void pass() {
    std::unique_lock lock(mutex_);
    opens_.wait(lock, [&] { return is_open_; });
  }
  void open() {
    const std::lock_guard lock(mutex_);
    is_open_ = true;
    opens_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable opens_;
  bool is_open_ = false;
};

void wait_until(const std::function<bool()>& is_so) {
  while (!is_so()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

TEST(Prefetch, StepsComeOutInTheirOrder) {
  for (const std::int64_t workers : {0, 1, 2, 5}) {
    // Odd steps take longer, so that threads overtake each other.
    const auto make = [](std::int64_t step, WorkNote&) {
      if (step % 2 == 1) std::this_thread::sleep_for(std::chrono::milliseconds(3));
      return batches_of(step);
    };
    Prefetch feed(make, 7, 27, {.num_workers = workers});
    for (std::int64_t step = 7; step < 27; ++step) EXPECT_EQ(feed.next().at(0).num_tokens, step) << workers;
  }
}

TEST(Prefetch, ReadsAheadAndNoFurtherThanItMay) {
  const auto begun = std::make_shared<std::atomic<std::int64_t>>(0);
  const auto make = [begun](std::int64_t step, WorkNote&) {
    ++*begun;
    return batches_of(step);
  };
  Prefetch feed(make, 0, 100, {.num_workers = 2, .max_ahead_per_worker = 2});
  for (std::int64_t taken = 0; taken < 10; ++taken) {
    wait_until([&] { return *begun == taken + 4; });
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    EXPECT_EQ(*begun, taken + 4);
    feed.next();
  }
}

TEST(Prefetch, BatchesThatWaitAreBoundedInBytes) {
  const auto begun = std::make_shared<std::atomic<std::int64_t>>(0);
  const auto make = [begun](std::int64_t step, WorkNote&) {
    ++*begun;
    return batches_of(step, 8);
  };
  Prefetch feed(make, 0, 100, {.num_workers = 1, .max_bytes = 20 << 10, .max_ahead_per_worker = 50});
  for (std::int64_t taken = 0; taken < 10; ++taken) {
    wait_until([&] { return *begun == taken + 3; });  // 16 KiB are fewer than 20, 24 are more
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    EXPECT_EQ(*begun, taken + 3);
    feed.next();
  }
}

TEST(Prefetch, AStepLargerThanTheBoundStillComes) {
  const auto make = [](std::int64_t step, WorkNote&) { return batches_of(step, 64); };
  Prefetch feed(make, 0, 5, {.num_workers = 2, .max_bytes = 1});
  for (std::int64_t step = 0; step < 5; ++step) EXPECT_EQ(feed.next().at(0).num_tokens, step);
}

TEST(Prefetch, AnExceptionComesInThePlaceOfItsStep) {
  for (const std::int64_t workers : {0, 1, 3}) {
    const auto make = [](std::int64_t step, WorkNote&) {
      if (step == 3) throw Error(ErrorKind::kIo, "train.jsonl:4: gone");
      if (step == 4) throw std::length_error("of another kind");
      return batches_of(step);
    };
    Prefetch feed(make, 0, 6, {.num_workers = workers, .timeout_s = 600});
    for (std::int64_t step = 0; step < 3; ++step) EXPECT_EQ(feed.next().at(0).num_tokens, step);
    try {
      feed.next();
      FAIL() << "no exception";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kIo);
      EXPECT_STREQ(error.what(), "train.jsonl:4: gone");
    }
    EXPECT_THROW(feed.next(), std::length_error);
    EXPECT_EQ(feed.next().at(0).num_tokens, 5);
  }
}

TEST(Prefetch, WhatHangsIsNamedAndNothingWaitsForIt) {
  for (const std::int64_t workers : {1, 2}) {
    const auto gate = std::make_shared<Gate>();
    {
      const auto make = [gate](std::int64_t step, WorkNote& note) {
        note.begin("train.jsonl:1");
        if (step == 2) {
          note.begin("train.jsonl:7");
          gate->pass();
        }
        return batches_of(step);
      };
      Prefetch feed(make, 0, 10, {.num_workers = workers, .timeout_s = 0.05});
      for (std::int64_t step = 0; step < 2; ++step) EXPECT_EQ(feed.next().at(0).num_tokens, step);
      const std::string message = error_of([&] { feed.next(); });
      EXPECT_TRUE(says(message, "train.jsonl:7: not read and decoded after 0.05 s"));
      EXPECT_TRUE(says(message, "data_timeout"));
    }
    gate->open();  // only now, when the feed is gone
  }
}

TEST(Prefetch, WhatHangsCanBeLeftOut) {
  for (const std::int64_t workers : {1, 2}) {
    const auto gate = std::make_shared<Gate>();
    const auto mutex = std::make_shared<std::mutex>();
    const auto left_out = std::make_shared<std::set<std::string>>();
    const auto make = [=](std::int64_t step, WorkNote& note) {
      std::int64_t samples = 0;
      for (int i = 0; i < 3; ++i) {
        const std::string source = "train.jsonl:" + std::to_string(3 * step + i);
        {
          const std::lock_guard lock(*mutex);
          if (left_out->contains(source)) continue;
        }
        note.begin(source);
        if (source == "train.jsonl:4" || source == "train.jsonl:5" || source == "train.jsonl:9") gate->pass();
        ++samples;
      }
      return batches_of(100 * step + samples);
    };
    const auto skip_sample = [=](const std::string& what, const std::string& why) {
      EXPECT_TRUE(says(why, what + ": not read and decoded"));
      const std::lock_guard lock(*mutex);
      left_out->insert(what);
      return true;
    };
    {
      Prefetch feed(make, 0, 6, {.num_workers = workers, .timeout_s = 0.2, .skip_sample = skip_sample});
      std::vector<std::int64_t> found;
      for (int step = 0; step < 6; ++step) found.push_back(feed.next().at(0).num_tokens);
      EXPECT_EQ(found, (std::vector<std::int64_t>{3, 101, 203, 302, 403, 503}));
      EXPECT_EQ(*left_out, (std::set<std::string>{"train.jsonl:4", "train.jsonl:5", "train.jsonl:9"}));
    }
    gate->open();
  }
}

// Ten samples of a step may together take longer than one may.
TEST(Prefetch, TheTimeOfEachSampleCounts) {
  const auto make = [](std::int64_t step, WorkNote& note) {
    for (int i = 0; i < 10; ++i) {
      note.begin("train.jsonl:" + std::to_string(i));
      std::this_thread::sleep_for(std::chrono::milliseconds(150));
    }
    return batches_of(step);
  };
  Prefetch feed(make, 0, 1, {.num_workers = 1, .timeout_s = 1.2});
  EXPECT_EQ(feed.next().at(0).num_tokens, 0);
}

TEST(Prefetch, AThreadThatHangsDoesNotKeepTheProcess) {
  // A fork of this process would be without the threads of OpenMP that other tests have started.
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto hang_and_exit = [] {
    const auto gate = std::make_shared<Gate>();
    const auto make = [gate](std::int64_t step, WorkNote& note) {
      note.begin("train.jsonl:1");
      gate->pass();
      return batches_of(step);
    };
    {
      Prefetch feed(make, 0, 1, {.num_workers = 1, .timeout_s = 0.05});
      error_of([&] { feed.next(); });
      const Prefetch never_asked(make, 0, 1, {.num_workers = 2, .timeout_s = 600});
    }
    std::exit(3);
  };
  EXPECT_EXIT(hang_and_exit(), testing::ExitedWithCode(3), "");
}

TEST(Prefetch, WorkersCalculateOnOneThreadAndLeaveTheCallersAlone) {
  const int before = at::get_num_threads();
  const auto make = [](std::int64_t, WorkNote&) { return batches_of(at::get_num_threads()); };
  Prefetch feed(make, 0, 4, {.num_workers = 2});
  for (int step = 0; step < 4; ++step) EXPECT_EQ(feed.next().at(0).num_tokens, 1);
  EXPECT_EQ(at::get_num_threads(), before);
}

}  // namespace
}  // namespace bezel::train
