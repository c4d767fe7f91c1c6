#include "fuzz/target.h"

#include <sys/mman.h>
#include <unistd.h>

namespace bezel::fuzz {

std::string as_file(const std::uint8_t* data, std::size_t size) {
  // In memory, and of a new inode each time: a reader may still hold the one before.
  static int fd = -1;
  if (fd >= 0) ::close(fd);
  fd = ::memfd_create("input", MFD_CLOEXEC);
  require(fd >= 0 && ::write(fd, data, size) == static_cast<ssize_t>(size));
  return "/proc/self/fd/" + std::to_string(fd);
}

}  // namespace bezel::fuzz
