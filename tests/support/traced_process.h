#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include <sys/types.h>

namespace bezel::test {

/// One stop of a traced process, before or after a system call.
struct SyscallStop {
  pid_t pid = 0;
  bool before = true;
  std::int64_t number = 0;
  std::uint64_t arguments[3] = {};

  /// "write", "fsync" …; "" for calls that change no file and need no name here.
  std::string name() const;
  /// Whether the call changes what is on the disk.
  bool changes_files() const { return !name().empty(); }
  /// The file behind argument 0 where that is a descriptor; else "".
  std::string file() const;
  /// The text that argument `idx` points to.
  std::string text(int idx) const;
};

enum class Verdict {
  kGoOn,
  kKill,      ///< SIGKILL here
  kFail,      ///< the call does nothing and returns `error`; only before a call
  kShort,     ///< a write takes half of its bytes; only before a call
  kStopping,  ///< go on without being traced
};

/// What to do at a stop.
struct Answer {
  Verdict verdict = Verdict::kGoOn;
  int error = 0;
};

/// Lets a child that is waiting to be traced run, and asks `at_stop` before and after each of its system calls.
/// Returns the status that waitpid gives in the end.
int trace(pid_t child, const std::function<Answer(const SyscallStop&)>& at_stop);

/// Called in the child: waits for the parent's trace().
void wait_to_be_traced();

/// Whether this machine lets processes trace their children, and the calls can be told apart here.
bool can_trace();

}  // namespace bezel::test
