#include "bezel/io/atomic_write.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bezel/error.h"

namespace bezel::io {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const std::string& path, std::string_view what, int error) {
  throw Error(ErrorKind::kIo, path, ": ", what, ": ", std::strerror(error));
}

/// A new file that is deleted again unless it was renamed.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& target) : target_(target) {
    static std::atomic<unsigned> counter{0};
    do {
      path_ = target + "." + std::to_string(::getpid()) + "-" + std::to_string(counter++) + ".tmp";
      fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    } while (fd_ < 0 && (errno == EEXIST || errno == EINTR));
    if (fd_ < 0) fail(target, "cannot be written", errno);
  }

  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  ~TemporaryFile() {
    if (fd_ >= 0) ::close(fd_);
    if (!renamed_) ::unlink(path_.c_str());
  }

  int fd() const { return fd_; }

  void commit() {
    if (::fsync(fd_) != 0) fail(target_, "cannot be flushed to disk", errno);
    if (::close(std::exchange(fd_, -1)) != 0) fail(target_, "cannot be closed", errno);
    if (::rename(path_.c_str(), target_.c_str()) != 0) fail(target_, "cannot be replaced", errno);
    renamed_ = true;
  }

 private:
  std::string target_;
  std::string path_;
  int fd_ = -1;
  bool renamed_ = false;
};

// Without this a crash could undo the rename.
void flush_parent(const std::string& path) {
  const fs::path parent = fs::path(path).parent_path();
  flush_folder(parent.empty() ? "." : parent.string());
}

/// The file that `path` means once symlinks are followed; throws when it is there but no regular file.
std::string resolved_target(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode))
    throw Error(ErrorKind::kIo, path, ": cannot be replaced by a file: it is a folder, FIFO or device");
  std::error_code error;
  if (!fs::is_symlink(path, error)) return path;
  const fs::path target = fs::weakly_canonical(path, error);
  if (error) throw Error(ErrorKind::kIo, path, ": cannot follow the link: ", error.message());
  return target.string();
}

}  // namespace

void flush_folder(const std::string& folder) {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) fail(folder, "cannot be opened", errno);
  const int error = ::fsync(fd) == 0 ? 0 : errno;
  ::close(fd);
  // Some file systems cannot flush a folder and say EINVAL.
  if (error != 0 && error != EINVAL) fail(folder, "cannot be flushed to disk", error);
}

FileSink::FileSink(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}

void FileSink::write_all(const void* data, std::size_t size_bytes,
                         const std::function<long(const char*, std::size_t)>& some) {
  const char* next = static_cast<const char*>(data);
  while (size_bytes > 0) {
    constexpr std::size_t kMaxBytes = std::size_t{1} << 30;
    const ssize_t written_bytes = some(next, std::min(size_bytes, kMaxBytes));
    if (written_bytes < 0 && errno == EINTR) continue;
    if (written_bytes <= 0) fail(path_, "cannot be written", written_bytes < 0 ? errno : EIO);
    next += written_bytes;
    size_bytes -= static_cast<std::size_t>(written_bytes);
  }
}

void FileSink::write(const void* data, std::size_t size_bytes) {
  write_all(data, size_bytes, [this](const char* next, std::size_t count) { return ::write(fd_, next, count); });
}

void FileSink::write_at(std::size_t offset_bytes, const void* data, std::size_t size_bytes) {
  write_all(data, size_bytes, [&](const char* next, std::size_t count) {
    const ssize_t written_bytes = ::pwrite(fd_, next, count, static_cast<off_t>(offset_bytes));
    if (written_bytes > 0) offset_bytes += static_cast<std::size_t>(written_bytes);
    return written_bytes;
  });
}

void write_file_atomically(const std::string& path, const std::function<void(FileSink&)>& fill) {
  const std::string target = resolved_target(path);
  TemporaryFile temporary(target);
  FileSink sink(temporary.fd(), target);
  fill(sink);
  temporary.commit();
  flush_parent(target);
}

void write_file_atomically(const std::string& path, std::string_view text) {
  write_file_atomically(path, [&](FileSink& sink) { sink.write(text); });
}

}  // namespace bezel::io
