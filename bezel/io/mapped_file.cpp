#include "bezel/io/mapped_file.h"

#include <cerrno>
#include <cstring>

#include <sys/mman.h>
#include <unistd.h>

#include "bezel/error.h"
#include "bezel/io/torn_map.h"

namespace bezel::io {

MappedFile::MappedFile(const std::string& path) : file_(path) {
  if (size_bytes() == 0) return;
  void* data = ::mmap(nullptr, size_bytes(), PROT_READ, MAP_PRIVATE, file_.fd(), 0);
  if (data == MAP_FAILED)
    throw Error(ErrorKind::kIo, path, ": cannot map ", size_bytes(), " bytes: ", std::strerror(errno));
  data_ = static_cast<const std::byte*>(data);
  watch_ = watch_map(data_, size_bytes(), path);
}

MappedFile::~MappedFile() {
  unwatch_map(watch_);
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_bytes());
}

std::shared_ptr<const MappedFile> MappedFile::open(const std::string& path) {
  return std::shared_ptr<const MappedFile>(new MappedFile(path));
}

void MappedFile::evict(const std::byte* begin, std::size_t size_bytes) const {
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto address = reinterpret_cast<std::uintptr_t>(begin);
  const std::uintptr_t first = (address + page - 1) / page * page, end = (address + size_bytes) / page * page;
  // A hint: where it is refused, the pages stay a while longer.
  if (end > first) ::madvise(reinterpret_cast<void*>(first), end - first, MADV_DONTNEED);
}

void MappedFile::read(const std::byte* begin, std::size_t size_bytes, void* to) const {
  const auto offset = static_cast<std::size_t>(begin - data_);
  if (file_.read(static_cast<char*>(to), size_bytes, offset) < size_bytes)
    throw Error(ErrorKind::kIo, path(), ": was truncated while it was in use; put the file back and start again");
}

}  // namespace bezel::io
