#include "bezel/io/regular_file.h"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bezel/error.h"

namespace bezel::io {

RegularFile::RegularFile(const std::string& path)
    : path_(path), fd_(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC)) {
  if (fd_ < 0) throw Error(ErrorKind::kIo, path, ": cannot be opened: ", std::strerror(errno));
  struct stat info {};
  const bool known = ::fstat(fd_, &info) == 0;
  size_bytes_ = static_cast<std::uint64_t>(info.st_size);
  if (known && S_ISREG(info.st_mode)) return;
  const int error = errno;
  ::close(fd_);
  if (!known) throw Error(ErrorKind::kIo, path, ": ", std::strerror(error));
  throw Error(path, ": not a regular file");
}

RegularFile::~RegularFile() { ::close(fd_); }

std::size_t RegularFile::read(char* to, std::size_t size_bytes, std::uint64_t offset) const {
  std::size_t done = 0;
  while (done < size_bytes) {
    const ssize_t got = ::pread(fd_, to + done, size_bytes - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw Error(ErrorKind::kIo, path_, ": cannot be read: ", std::strerror(errno));
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  return done;
}

bool is_there(const std::string& path) {
  struct stat info {};
  return ::lstat(path.c_str(), &info) == 0 || (errno != ENOENT && errno != ENOTDIR);
}

std::string read_text_file(const std::string& path) {
  const RegularFile file(path);
  std::string text(file.size_bytes(), '\0');
  text.resize(file.read(text.data(), text.size(), 0));
  return text;
}

}  // namespace bezel::io
