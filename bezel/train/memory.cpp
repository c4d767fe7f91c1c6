#include "bezel/train/memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

namespace bezel::train {
namespace {

// The whole number in a file of one line; the largest number where there is no limit ("max").
std::int64_t limit_in(const char* path) {
  std::ifstream file(path);
  std::int64_t value = 0;
  return file >> value ? value : std::numeric_limits<std::int64_t>::max();
}

}  // namespace

std::int64_t available_memory_bytes() {
  std::ifstream file("/proc/meminfo");
  std::int64_t available = std::numeric_limits<std::int64_t>::max();
  for (std::string name; file >> name;) {
    if (name == "MemAvailable:" && file >> available) {
      available *= 1024;
      break;
    }
    file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  const std::int64_t limit = limit_in("/sys/fs/cgroup/memory.max");
  if (limit == std::numeric_limits<std::int64_t>::max()) return available;
  return std::min(available, limit - std::min(limit, limit_in("/sys/fs/cgroup/memory.current")));
}

}  // namespace bezel::train
