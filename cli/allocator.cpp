#include "cli/allocator.h"

#if defined(__GLIBC__)
#include <cstdlib>
#include <limits>
#include <string_view>

#include <malloc.h>
#endif

namespace bezel::cli {
namespace {

#if defined(__GLIBC__)
// Whether the environment says when malloc returns memory to the system.
bool user_sets_malloc() {
  for (const char* const name : {"MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"})
    if (std::getenv(name) != nullptr) return true;
  const char* const tunables = std::getenv("GLIBC_TUNABLES");
  return tunables != nullptr && std::string_view(tunables).find("glibc.malloc.") != std::string_view::npos;
}
#endif

}  // namespace

void keep_freed_memory() {
#if defined(__GLIBC__)
  if (user_sets_malloc()) return;
  ::mallopt(M_MMAP_MAX, 0);
  ::mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
#endif
}

}  // namespace bezel::cli
