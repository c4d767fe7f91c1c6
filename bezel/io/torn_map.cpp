#include "bezel/io/torn_map.h"

#include <array>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <mutex>

#include <sys/mman.h>
#include <unistd.h>

#include "bezel/error.h"

namespace bezel::io {
namespace {

struct Watched {
  std::atomic<std::uintptr_t> begin{0};  // 0: free
  std::atomic<std::uintptr_t> end{0};
  std::atomic<bool> torn{false};
  std::string path;
};

// A signal handler gets no argument of ours and may neither lock nor allocate: hence globals, of a fixed size.
std::array<Watched, 512> watched_maps;
std::mutex watched_mutex;  // for `path`, and for who takes a slot
std::atomic<bool> any_torn{false};
std::uintptr_t page_bytes = 0;
struct sigaction old_action {};

Watched* find_map(std::uintptr_t address) {
  for (Watched& map : watched_maps) {
    const std::uintptr_t begin = map.begin.load();
    if (begin != 0 && address >= begin && address < map.end.load()) return &map;
  }
  return nullptr;
}

// Zeros from the page at `address` to the end of the map: a file that was truncated lacks the rest, too.
bool replace_pages(const Watched& map, std::uintptr_t address) {
  const std::uintptr_t first = address / page_bytes * page_bytes;
  void* const wanted = reinterpret_cast<void*>(first);  // NOLINT(performance-no-int-to-ptr)
  return ::mmap(wanted, map.end.load() - first, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1,
                0) != MAP_FAILED;
}

void on_bus_error(int number, siginfo_t* info, void*) {
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  Watched* map = find_map(address);
  if (map != nullptr && replace_pages(*map, address)) {
    map->torn = true;
    any_torn = true;
    return;
  }
  // Not ours: what was there before gets it, as soon as this handler returns.
  ::sigaction(SIGBUS, &old_action, nullptr);
  ::raise(number);
}

}  // namespace

void survive_torn_maps() {
  page_bytes = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  struct sigaction action {};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO;
  ::sigemptyset(&action.sa_mask);
  ::sigaction(SIGBUS, &action, &old_action);
}

void throw_if_torn() {
  if (!any_torn) return;
  const std::lock_guard<std::mutex> lock(watched_mutex);
  for (const Watched& map : watched_maps)
    if (map.torn)
      throw Error(ErrorKind::kIo, map.path,
                  ": was truncated, or its disk failed, while it was in use; put the file back and start again");
}

int watch_map(const void* begin, std::size_t size_bytes, const std::string& path) {
  const std::lock_guard<std::mutex> lock(watched_mutex);
  for (std::size_t i = 0; i < watched_maps.size(); ++i) {
    Watched& map = watched_maps[i];
    if (map.begin != 0 || map.torn) continue;
    map.path = path;
    map.end = reinterpret_cast<std::uintptr_t>(begin) + size_bytes;
    map.begin = reinterpret_cast<std::uintptr_t>(begin);
    return static_cast<int>(i);
  }
  return -1;
}

void unwatch_map(int handle) {
  if (handle >= 0) watched_maps[static_cast<std::size_t>(handle)].begin = 0;
}

}  // namespace bezel::io
