#include "support/simulated_memory.h"

#include <algorithm>
#include <csignal>
#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <vector>

#include <execinfo.h>
#include <sys/mman.h>
#include <unistd.h>

namespace bezel::simulated {
namespace {

constexpr std::size_t kSpaceBytes = std::size_t{1} << 37;  // of addresses; memory is taken as it is written
constexpr std::size_t kPageBytes = 4096;
constexpr std::size_t kReturnBytes = std::size_t{1} << 20;  // blocks from here on go back to the system

struct Block {
  std::size_t room_bytes = 0, bytes = 0;
  const char* name = "";
};

std::size_t rounded(std::size_t bytes) {
  const std::size_t pages = std::max<std::size_t>(1, (bytes + kPageBytes - 1) / kPageBytes);
  std::size_t step = 1;
  while (step * 16 < pages) step *= 2;  // a few sizes, so that freed blocks are found again
  return (pages + step - 1) / step * step * kPageBytes;
}

class Memory {
 public:
  Memory() {
    const int file = ::memfd_create("simulated_device", MFD_CLOEXEC);
    if (file < 0 || ::ftruncate(file, static_cast<off_t>(kSpaceBytes)) != 0) throw std::bad_alloc();
    device_ = map(file, PROT_NONE);
    host_ = map(file, PROT_READ | PROT_WRITE);
    ::close(file);
  }

  void* allocate(std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    const std::size_t room = rounded(bytes);
    std::vector<std::size_t>& free = free_[room];
    std::size_t at = end_;
    if (!free.empty()) {
      at = free.back();
      free.pop_back();
    } else {
      if (room > kSpaceBytes - end_) throw std::bad_alloc();
      end_ += room;
    }
    blocks_[at] = {room, bytes};
    use_.bytes += static_cast<std::int64_t>(bytes);
    use_.peak_bytes = std::max(use_.peak_bytes, use_.bytes);
    std::memset(host_ + at, 0xFF, bytes);
    return device_ + at;
  }

  void release(void* pointer) {
    const std::lock_guard lock(mutex_);
    const auto block = blocks_.find(offset(pointer));
    const auto [room, bytes, name] = block->second;
    use_.bytes -= static_cast<std::int64_t>(bytes);
    if (room >= kReturnBytes) ::madvise(host_ + block->first, room, MADV_REMOVE);
    free_[room].push_back(block->first);
    blocks_.erase(block);
  }

  void* to_host(const void* device) const { return device == nullptr ? nullptr : host_ + offset(device); }
  bool holds(const void* pointer) const {
    return pointer >= device_ && pointer < static_cast<const void*>(device_ + kSpaceBytes);
  }

  void name(const void* device, const char* name, bool overwrite) {
    const std::lock_guard lock(mutex_);
    if (Block* block = find(device); block != nullptr && (overwrite || block->name[0] == '\0')) block->name = name;
  }

  // Takes no lock: a process that dies asks, too.
  Block* find(const void* device) {
    if (!holds(device)) return nullptr;
    auto after = blocks_.upper_bound(offset(device));
    if (after == blocks_.begin()) return nullptr;
    --after;
    return offset(device) < after->first + after->second.room_bytes ? &after->second : nullptr;
  }

  MemoryUse use() {
    const std::lock_guard lock(mutex_);
    return use_;
  }
  void reset_peak() {
    const std::lock_guard lock(mutex_);
    use_.peak_bytes = use_.bytes;
  }

 private:
  static std::byte* map(int file, int protection) {
    void* memory = ::mmap(nullptr, kSpaceBytes, protection, MAP_SHARED | MAP_NORESERVE, file, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    return static_cast<std::byte*>(memory);
  }
  std::size_t offset(const void* device) const {
    return static_cast<std::size_t>(static_cast<const std::byte*>(device) - device_);
  }

  std::byte *device_ = nullptr, *host_ = nullptr;
  std::mutex mutex_;
  std::size_t end_ = 0;
  std::map<std::size_t, Block> blocks_;                   // by offset
  std::map<std::size_t, std::vector<std::size_t>> free_;  // by room
  MemoryUse use_;
};

// Never destroyed: tensors may outlive everything.
Memory& memory() {
  static auto* const all = new Memory;
  return *all;
}

void say(const char* text) { [[maybe_unused]] const ssize_t written = ::write(2, text, std::strlen(text)); }

void report(int signal, siginfo_t* info, void*) {
  if (memory().holds(info->si_addr)) {
    const Block* block = memory().find(info->si_addr);
    say("\nhost access to memory of the simulated device, in ");
    say(block == nullptr ? "a block that is free" : block->name[0] == '\0' ? "a block without name" : block->name);
    say("\n");
    void* frames[64];
    ::backtrace_symbols_fd(frames, ::backtrace(frames, 64), 2);
  }
  ::signal(signal, SIG_DFL);  // the access is made again, and ends the process
}

}  // namespace

void* allocate(std::size_t bytes) { return memory().allocate(bytes); }
void release(void* block) { memory().release(block); }
void* to_host(const void* device) { return memory().to_host(device); }
void name_block(const void* device, const char* name, bool overwrite) { memory().name(device, name, overwrite); }
MemoryUse memory_use() { return memory().use(); }
void reset_peak() { memory().reset_peak(); }

std::string name_of_block(const void* device) {
  const Block* block = memory().find(device);
  return block == nullptr ? "" : block->name;
}

void install_fault_report() {
  void* frames[1];
  ::backtrace(frames, 1);  // loads what it needs now
  struct sigaction action {};
  action.sa_sigaction = report;
  action.sa_flags = SA_SIGINFO;
  ::sigaction(SIGSEGV, &action, nullptr);
}

}  // namespace bezel::simulated
