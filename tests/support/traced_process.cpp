#include "support/traced_process.h"

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <utility>

#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

namespace bezel::test {

#if defined(__x86_64__)

namespace {

constexpr std::pair<long, const char*> kNames[] = {
    {SYS_write, "write"},     {SYS_pwrite64, "pwrite"},    {SYS_writev, "writev"},    {SYS_fsync, "fsync"},
    {SYS_fdatasync, "fsync"}, {SYS_rename, "rename"},      {SYS_renameat, "rename"},  {SYS_renameat2, "renameat2"},
    {SYS_unlink, "unlink"},   {SYS_unlinkat, "unlink"},    {SYS_mkdir, "mkdir"},      {SYS_mkdirat, "mkdir"},
    {SYS_rmdir, "unlink"},    {SYS_ftruncate, "truncate"}, {SYS_truncate, "truncate"}};

// open() counts where it makes a file.
bool makes_file(const SyscallStop& stop) {
  constexpr std::uint64_t kCreate = 0100;
  return (stop.number == SYS_openat && (stop.arguments[2] & kCreate) != 0) ||
         (stop.number == SYS_open && (stop.arguments[1] & kCreate) != 0);
}

SyscallStop look_at(pid_t child, bool before) {
  user_regs_struct registers{};
  ::ptrace(PTRACE_GETREGS, child, nullptr, &registers);
  return {child, before, static_cast<std::int64_t>(registers.orig_rax), {registers.rdi, registers.rsi, registers.rdx}};
}

void change_call(pid_t child, const Answer& answer) {
  user_regs_struct registers{};
  ::ptrace(PTRACE_GETREGS, child, nullptr, &registers);
  if (answer.verdict == Verdict::kFail)
    registers.orig_rax = ~0ull;  // no such call: nothing happens
  else if (registers.rdx > 1)
    registers.rdx /= 2;
  ::ptrace(PTRACE_SETREGS, child, nullptr, &registers);
}

void change_result(pid_t child, int error) {
  user_regs_struct registers{};
  ::ptrace(PTRACE_GETREGS, child, nullptr, &registers);
  registers.rax = static_cast<unsigned long long>(-static_cast<long long>(error));
  ::ptrace(PTRACE_SETREGS, child, nullptr, &registers);
}

}  // namespace

std::string SyscallStop::name() const {
  if (makes_file(*this)) return "open";
  const auto* const found = std::ranges::find(kNames, number, [](const auto& row) { return row.first; });
  return found == std::end(kNames) ? "" : found->second;
}

std::string SyscallStop::file() const {
  std::error_code error;
  const std::string link = "/proc/" + std::to_string(pid) + "/fd/" + std::to_string(arguments[0]);
  return std::filesystem::read_symlink(link, error).string();
}

std::string SyscallStop::text(int idx) const {
  std::string text;
  char c = 0;
  const iovec local{&c, 1};
  for (std::uint64_t address = arguments[idx];; ++address) {
    const iovec remote{reinterpret_cast<void*>(address), 1};  // NOLINT(performance-no-int-to-ptr)
    if (::process_vm_readv(pid, &local, 1, &remote, 1, 0) != 1 || c == '\0') return text;
    text += c;
  }
}

int trace(pid_t child, const std::function<Answer(const SyscallStop&)>& at_stop) {
  int status = 0;
  ::waitpid(child, &status, 0);  // the stop of wait_to_be_traced()
  ::ptrace(PTRACE_SETOPTIONS, child, nullptr, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
  bool before = true;
  int pending_error = 0;
  long signal = 0;
  for (;;) {
    ::ptrace(PTRACE_SYSCALL, child, nullptr, signal);
    ::waitpid(child, &status, 0);
    if (!WIFSTOPPED(status)) return status;
    const bool is_call = WSTOPSIG(status) == (SIGTRAP | 0x80);
    signal = is_call ? 0 : WSTOPSIG(status);
    if (!is_call) continue;
    if (pending_error != 0) change_result(child, std::exchange(pending_error, 0));
    const Answer answer = at_stop(look_at(child, before));
    if (answer.verdict == Verdict::kKill) ::kill(child, SIGKILL);
    if (answer.verdict == Verdict::kFail || answer.verdict == Verdict::kShort) change_call(child, answer);
    if (answer.verdict == Verdict::kFail) pending_error = answer.error;
    if (answer.verdict == Verdict::kStopping) {
      ::ptrace(PTRACE_DETACH, child, nullptr, nullptr);
      ::waitpid(child, &status, 0);
      return status;
    }
    before = !before;
  }
}

void wait_to_be_traced() {
  ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
  ::raise(SIGSTOP);
}

bool can_trace() {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) == 0 ? 0 : 1);
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

#else

std::string SyscallStop::name() const { return ""; }
std::string SyscallStop::file() const { return ""; }
std::string SyscallStop::text(int) const { return ""; }
int trace(pid_t, const std::function<Answer(const SyscallStop&)>&) { return -1; }
void wait_to_be_traced() {}
bool can_trace() { return false; }

#endif

}  // namespace bezel::test
