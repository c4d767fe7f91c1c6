#include "bezel/data/jsonl.h"

#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bezel/error.h"
#include "bezel/io/sha256.h"

namespace bezel::data {
namespace {

constexpr std::size_t kChunkBytes = std::size_t{1} << 20;

std::size_t read_at(int fd, char* to, std::size_t bytes, std::uint64_t offset, const std::string& path) {
  std::size_t done = 0;
  while (done < bytes) {
    const ssize_t got = ::pread(fd, to + done, bytes - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw Error(ErrorKind::kIo, path, ": ", std::strerror(errno));
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  return done;
}

}  // namespace

JsonlFile::Descriptor::~Descriptor() {
  if (fd_ >= 0) ::close(fd_);
}

JsonlFile::Descriptor::Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

// O_NONBLOCK: opening a FIFO must not wait for a writer.
JsonlFile::JsonlFile(std::string path)
    : path_(std::move(path)), file_(::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
  if (file_.get() < 0) throw Error(ErrorKind::kIo, path_, ": ", std::strerror(errno));
  index();
}

void JsonlFile::index() {
  struct stat info {};
  if (::fstat(file_.get(), &info) != 0) throw Error(ErrorKind::kIo, path_, ": ", std::strerror(errno));
  if (!S_ISREG(info.st_mode)) throw Error(path_, ": not a regular file");
  size_bytes_ = static_cast<std::uint64_t>(info.st_size);
  modified_ = info.st_mtim;

  io::Sha256 hash;
  std::string chunk(kChunkBytes, '\0');
  Line line{0, 0, 1};
  bool blank = true;
  const auto finish = [&](std::uint64_t end) {
    line.bytes = end - line.begin;
    if (!blank) lines_.push_back(line);
    line = {end + 1, 0, line.number + 1};
    blank = true;
  };
  for (std::uint64_t offset = 0; offset < size_bytes_;) {
    const std::size_t got = read_at(file_.get(), chunk.data(), chunk.size(), offset, path_);
    if (got == 0) break;
    hash.update(chunk.data(), got);
    std::size_t at = 0;
    if (offset == 0 && std::string_view(chunk).substr(0, std::min<std::size_t>(got, 3)) == "\xEF\xBB\xBF")
      line.begin = at = 3;
    while (at < got) {
      const auto* const found = static_cast<const char*>(std::memchr(chunk.data() + at, '\n', got - at));
      const std::size_t end = found == nullptr ? got : static_cast<std::size_t>(found - chunk.data());
      if (blank)
        blank = std::string_view(chunk).substr(at, end - at).find_first_not_of(" \t\r") == std::string_view::npos;
      if (found != nullptr) finish(offset + end);
      at = end + 1;
    }
    offset += got;
  }
  finish(size_bytes_);
  sha256_ = hash.finish();
}

std::string JsonlFile::source(std::size_t idx) const { return path_ + ":" + std::to_string(line_number(idx)); }

std::string JsonlFile::read(std::size_t idx) const {
  const Line& line = lines_[idx];
  if (line.bytes > kMaxLineBytes)
    throw Error(source(idx), ": a line of ", line.bytes, " bytes, at most ", kMaxLineBytes, " are read");
  std::string text(line.bytes, '\0');
  const std::size_t got = read_at(file_.get(), text.data(), text.size(), line.begin, path_);
  check_unchanged();
  if (got != text.size()) throw Error(ErrorKind::kIo, source(idx), ": the file ends inside this line");
  if (!text.empty() && text.back() == '\r') text.pop_back();
  return text;
}

void JsonlFile::check_unchanged() const {
  struct stat info {};
  if (::fstat(file_.get(), &info) != 0) throw Error(ErrorKind::kIo, path_, ": ", std::strerror(errno));
  const bool same = static_cast<std::uint64_t>(info.st_size) == size_bytes_ &&
                    info.st_mtim.tv_sec == modified_.tv_sec && info.st_mtim.tv_nsec == modified_.tv_nsec;
  if (!same) throw Error(ErrorKind::kIo, path_, ": the file was changed while it is in use; start again");
}

}  // namespace bezel::data
