#include "bezel/io/mapped_file.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bezel/error.h"
#include "bezel/io/torn_map.h"

namespace bezel::io {
namespace {

struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

}  // namespace

MappedFile::MappedFile(std::string path, const std::byte* data, std::size_t size_bytes)
    : path_(std::move(path)), data_(data), size_bytes_(size_bytes) {
  if (data_ != nullptr) watch_ = watch_map(data_, size_bytes_, path_);
}

MappedFile::~MappedFile() {
  unwatch_map(watch_);
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_bytes_);
}

std::shared_ptr<const MappedFile> MappedFile::open(const std::string& path) {
  // O_NONBLOCK: opening a FIFO without a writer would otherwise wait for ever.
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC)};
  if (file.fd < 0) throw Error(ErrorKind::kIo, path, ": cannot be opened: ", std::strerror(errno));
  struct stat info {};
  if (::fstat(file.fd, &info) != 0) throw Error(ErrorKind::kIo, path, ": ", std::strerror(errno));
  if (!S_ISREG(info.st_mode)) throw Error(path, ": not a regular file");

  const auto size_bytes = static_cast<std::size_t>(info.st_size);
  void* data = nullptr;
  if (size_bytes > 0) {
    data = ::mmap(nullptr, size_bytes, PROT_READ, MAP_PRIVATE, file.fd, 0);
    if (data == MAP_FAILED)
      throw Error(ErrorKind::kIo, path, ": cannot map ", size_bytes, " bytes: ", std::strerror(errno));
  }
  return std::shared_ptr<const MappedFile>(new MappedFile(path, static_cast<const std::byte*>(data), size_bytes));
}

void MappedFile::release(std::size_t begin, std::size_t size_bytes) const {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t first = (begin + page - 1) / page * page, end = (begin + size_bytes) / page * page;
  // A hint: where it is refused, the pages stay a while longer.
  if (end > first) ::madvise(const_cast<std::byte*>(data_) + first, end - first, MADV_DONTNEED);
}

}  // namespace bezel::io
