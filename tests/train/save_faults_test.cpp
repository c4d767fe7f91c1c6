// What can go wrong between two system calls: processes are killed, and calls made to fail, at each one from the second
// save of a run to its end. Every process here is a child: the test itself never uses tensors, so it can fork.
#include <cerrno>
#include <filesystem>
#include <functional>
#include <iostream>
#include <set>
#include <vector>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bezel/error.h"
#include "bezel/io/sha256.h"
#include "bezel/train/run.h"
#include "support/traced_process.h"
#include "tests/support/temp_folder.h"

namespace bezel::train {
namespace {

namespace fs = std::filesystem;
using test::Answer;
using test::read_bytes;
using test::SyscallStop;
using test::TempFolder;
using test::Verdict;

constexpr const char* kAdapter = "out/adapter_model.safetensors";
// While the second save is written; after it has ended a step follows, a third save, and the adapter itself.
constexpr int kSecondSave = 2;

/// What the processes tell each other.
struct Shared {
  int phase = 0;         // steps that the traced run has reported
  int failed_saves = 0;  // that it went on after
  int points = 0, states = 0, killed = 0, wrong = 0, injected = 0, stopped = 0, single_thread = 0;
};

Shared& shared() {
  static auto* const memory =
      static_cast<Shared*>(::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  return *memory;
}

TrainConfig tiny_run() {
  TrainConfig config;
  config.base_model = std::string(BEZEL_TEST_DATA) + "/../../demo/model";
  config.train_file = "../train.jsonl";
  config.output_dir = "out";
  config.dtype = "float32";
  config.threads = 1;
  config.dataloader_num_workers = 0;
  config.sample_predictions = 0;
  config.lora.rank = 2;
  config.lora.alpha = 4;
  config.lora.dropout = 0.2;
  config.lora.target_modules = lora::ModulePattern::from_text(".*layers\\.0\\.self_attn\\.q_proj");
  config.gradient_accumulation_steps = 1;
  config.max_steps = 3;
  config.save_steps = 1;
  config.save_total_limit = 1;
  config.gradient_checkpointing = false;
  return config;
}

/// Trains in the working folder; returns the exit code of `bezel train`.
int train(bool resume, const std::function<void(std::int64_t)>& on_step = {}) {
  TrainConfig config = tiny_run();
  if (resume) config.resume_from_checkpoint = "auto";
  RunEvents events;
  events.on_step = [&](const StepReport& report) {
    if (on_step) on_step(report.step);
  };
  events.on_save_failed = [](const std::string&) { ++shared().failed_saves; };
  try {
    run_training(config, events);
    return 0;
  } catch (const Error& error) {
    std::cerr << error.what() << "\n";
    return static_cast<int>(error.kind());
  }
}

/// The exit code of `action` in a process of its own, in `folder`; -1 when it was killed.
int in_child(const fs::path& folder, const std::function<int()>& action) {
  const pid_t child = ::fork();
  if (child == 0) {
    fs::current_path(folder);
    ::_exit(action());
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/// Stands for what lies below a folder, but for the numbers of processes in names, and times in texts: a text counts
/// as there or not yet, since it is written by one call. Of tensor files every byte that is there counts.
std::string state_of(const fs::path& folder) {
  std::set<std::string> lines;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    std::string name = entry.path().lexically_relative(folder).string();
    const bool is_tensors = name.find(".safetensors") != std::string::npos;
    if (const auto dash = name.rfind('-');
        name.ends_with(".tmp") && dash != std::string::npos && entry.is_regular_file())
      name.erase(name.rfind('.', dash));
    const bool is_empty = !entry.is_regular_file() || entry.file_size() == 0;
    lines.insert(name + (is_tensors ? " " + io::sha256_file(entry.path().string()) : is_empty ? " -" : " +"));
  }
  std::string all;
  for (const std::string& line : lines) all += line + "\n";
  return io::sha256(all);
}

/// A run that has done two steps and saved one; copies of it go on from there, each under the eyes of a tracer.
class Crossroads {
 public:
  Crossroads(fs::path folder, std::string wanted) : folder_(std::move(folder)), wanted_(std::move(wanted)) {}

  /// In the copy this returns at once, to go on with the run. In the original it returns the status that the copy
  /// ended with.
  bool go_on_traced(const std::function<Answer(const SyscallStop&)>& at_stop, int& status) {
    fs::remove_all(copy());
    fs::copy(folder_ / "base", copy(), fs::copy_options::recursive);
    const pid_t child = ::fork();
    if (child == 0) {
      fs::current_path(copy());
      test::wait_to_be_traced();
      return true;
    }
    status = test::trace(child, at_stop);
    return false;
  }

  /// Resumes what the copy has left, unless the same was left before. Counts what does not end with the wanted bytes.
  void check_resume(const std::string& what) {
    if (!seen_.insert(state_of(copy() / "out")).second) return;
    ++shared().states;
    if (in_child(copy(), [] { return train(true); }) == 0 && has_wanted_bytes()) return;
    ++shared().wrong;
    std::cerr << "not resumed to the same bytes: " << what << "\n";
  }

  bool has_wanted_bytes() const { return read_bytes((copy() / kAdapter).string()) == wanted_; }

 private:
  fs::path copy() const { return folder_ / "copy"; }

  fs::path folder_;
  std::string wanted_;
  std::set<std::string> seen_;
};

/// Runs to the second save, and calls `walk` there in a process that can fork. Returns false in copies of the run.
class SaveFaults : public testing::Test {
 protected:
  using Walk = std::function<bool(Crossroads&)>;

  void SetUp() override {
    if (!test::can_trace()) GTEST_SKIP() << "this machine lets no process trace another";
    shared() = {};
    for (const char* name : {"reference", "base"}) fs::create_directory(folder.path() / name);
    std::string lines;
    for (const char* answer : {"A cup.", "Two cups of tea.", "No.", "It rains.", "A cat on a sofa."})
      lines += std::string(R"({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": ")") +
               answer + "\"}]}\n";
    test::write_bytes(folder / "train.jsonl", lines);
    ASSERT_EQ(in_child(folder.path() / "reference", [] { return train(false); }), 0);
    wanted = read_bytes(folder / "reference/out/adapter_model.safetensors");
    ASSERT_FALSE(wanted.empty());
  }

  /// Exit code of the process that ran `walk`.
  int walk_from_second_save(const Walk& walk) {
    return in_child(folder.path() / "base", [&] {
      return train(false, [&](std::int64_t step) {
        shared().phase = static_cast<int>(step);
        if (step != kSecondSave || is_copy) return;
        shared().single_thread = std::distance(fs::directory_iterator("/proc/self/task"), {}) == 1;
        Crossroads crossroads(folder.path(), wanted);
        is_copy = walk(crossroads);
        if (!is_copy) ::_exit(0);
      });
    });
  }

  TempFolder folder;
  std::string wanted;
  bool is_copy = false;
};

TEST_F(SaveFaults, KilledAtEverySystemCallItResumesToTheSameBytes) {
  const int code = walk_from_second_save([](Crossroads& crossroads) {
    for (int point = 1;; ++point) {
      int stops = 0, status = 0;
      std::string what;
      const auto at_stop = [&](const SyscallStop& stop) -> Answer {
        if (++stops < point) return {};
        what = (stop.before ? "before call " : "after call ") + std::to_string(stop.number) + " " + stop.name();
        return {Verdict::kKill};
      };
      if (crossroads.go_on_traced(at_stop, status)) return true;
      crossroads.check_resume("killed at point " + std::to_string(point) + ", " + what);
      shared().points = point;
      if (!WIFSIGNALED(status)) return false;  // it came to its end before
      ++shared().killed;
    }
  });
  const Shared& found = shared();
  std::cout << "killed at " << found.killed << " points, before and after each system call; " << found.states
            << " states of the folder; " << found.wrong << " that do not resume to the same bytes\n";
  EXPECT_EQ(code, 0);
  EXPECT_TRUE(found.single_thread);
  EXPECT_GT(found.killed, 200);
  EXPECT_GT(found.states, 50);
  EXPECT_EQ(found.wrong, 0);
}

// Every call that changes a file fails once, or takes half of the bytes only. The first save may fail: training goes
// on. Where it is the last one, or the adapter itself, the exit code is 4.
TEST_F(SaveFaults, AFailingCallNeverLosesARunAndStopsItOnlyInTheEnd) {
  const int code = walk_from_second_save([](Crossroads& crossroads) {
    for (int point = 1;; ++point) {
      bool injected = false;
      for (const Verdict verdict : {Verdict::kFail, Verdict::kShort}) {
        int calls = 0, status = 0, phase = 0;
        std::string what;
        shared().failed_saves = 0;
        const auto at_stop = [&](const SyscallStop& stop) -> Answer {
          const std::string name = stop.name();
          if (!stop.before || name.empty() || ++calls < point) return {};
          if (calls > point || (verdict == Verdict::kShort && name != "write" && name != "pwrite")) return {};
          injected = true;
          phase = shared().phase;
          what = name + (verdict == Verdict::kShort ? " made short" : " made to fail") + " at point " +
                 std::to_string(point);
          return {verdict, name == "fsync" || name == "rename" || name == "unlink" ? EIO : ENOSPC};
        };
        if (crossroads.go_on_traced(at_stop, status)) return true;
        if (what.empty()) continue;
        ++shared().injected;
        const int exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
        const bool whole = exit_code == 0 && crossroads.has_wanted_bytes();
        const bool may_stop = phase != kSecondSave && verdict == Verdict::kFail && exit_code == 4;
        shared().stopped += exit_code == 4;
        if (!whole && !may_stop) {
          ++shared().wrong;
          std::cerr << what << ": exit code " << exit_code << "\n";
        }
        if (!whole) crossroads.check_resume(what);
      }
      if (!injected) return false;
    }
  });
  const Shared& found = shared();
  std::cout << found.injected << " calls failed or made short, " << found.stopped << " of them ended the run with 4; "
            << found.wrong << " wrong\n";
  EXPECT_EQ(code, 0);
  EXPECT_GT(found.injected, 100);
  EXPECT_GT(found.stopped, 10);
  EXPECT_EQ(found.wrong, 0);
}

// A disk that is full while the second save is written, and one that stays full.
TEST_F(SaveFaults, AFullDiskIsTriedAgainAndExits4OnlyWhenItStaysFull) {
  for (const bool stays_full : {false, true}) {
    shared().failed_saves = 0;
    const int code = walk_from_second_save([&](Crossroads& crossroads) {
      int status = 0;
      const auto at_stop = [&](const SyscallStop& stop) -> Answer {
        const std::string name = stop.name();
        const bool needs_room = name == "write" || name == "pwrite" || name == "open" || name == "mkdir";
        if (!stop.before || !needs_room || (!stays_full && shared().phase != kSecondSave)) return {};
        return {Verdict::kFail, ENOSPC};
      };
      if (crossroads.go_on_traced(at_stop, status)) return true;
      const int exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
      shared().wrong += exit_code != (stays_full ? 4 : 0);
      shared().wrong += crossroads.has_wanted_bytes() == stays_full;
      crossroads.check_resume("full disk");
      return false;
    });
    EXPECT_EQ(code, 0);
    EXPECT_EQ(shared().failed_saves, stays_full ? 2 : 1);
    EXPECT_EQ(shared().wrong, 0);
  }
}

// kill -9 cannot show a missing fsync: what was written is still in the page cache. So look at the calls themselves.
TEST_F(SaveFaults, EveryFileIsFlushedBeforeTheCheckpointGetsItsName) {
  const int code = walk_from_second_save([](Crossroads& crossroads) {
    std::set<std::string> unflushed;
    int status = 0;
    bool named = false, folder_flushed = false;
    const auto at_stop = [&](const SyscallStop& stop) -> Answer {
      if (!stop.before || shared().phase != kSecondSave) return {};
      const std::string name = stop.name(), file = stop.file();
      if ((name == "write" || name == "pwrite") && file.find("checkpoint-2.tmp/") != std::string::npos) {
        unflushed.insert(file);
        ++shared().points;
      }
      if (name == "fsync") {
        unflushed.erase(file);
        folder_flushed = folder_flushed || (named && file.ends_with("/out"));
      }
      if (name == "rename" && stop.text(0).ends_with("checkpoint-2.tmp")) {
        named = true;
        shared().wrong += !unflushed.empty();
      }
      // The one before may go only once the new name lasts.
      if (name == "rename" && stop.text(0).ends_with("checkpoint-1")) shared().wrong += !folder_flushed;
      return {};
    };
    if (crossroads.go_on_traced(at_stop, status)) return true;
    shared().wrong += !named || !folder_flushed;
    return false;
  });
  EXPECT_EQ(code, 0);
  EXPECT_GT(shared().points, 10);
  EXPECT_EQ(shared().wrong, 0);
}

}  // namespace
}  // namespace bezel::train
