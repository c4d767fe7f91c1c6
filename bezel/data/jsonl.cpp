#include "bezel/data/jsonl.h"

#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bezel/data/csv.h"
#include "bezel/data/data_format.h"
#include "bezel/data/gzip.h"
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

JsonlFile::Descriptor& JsonlFile::Descriptor::operator=(Descriptor&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

// O_NONBLOCK: opening a FIFO must not wait for a writer.
JsonlFile::JsonlFile(std::string path)
    : path_(std::move(path)), file_(::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
  if (file_.get() < 0) throw Error(ErrorKind::kIo, path_, ": ", std::strerror(errno));
  open_text();
  index();
}

void JsonlFile::open_text() {
  struct stat info {};
  if (::fstat(file_.get(), &info) != 0) throw Error(ErrorKind::kIo, path_, ": ", std::strerror(errno));
  if (!S_ISREG(info.st_mode)) throw Error(path_, ": not a regular file");
  text_bytes_ = size_bytes_ = static_cast<std::uint64_t>(info.st_size);
  modified_ = info.st_mtim;
  char magic[2];
  if (!is_gzip({magic, read_at(file_.get(), magic, sizeof(magic), 0, path_)})) return;
  unpacked_ = Descriptor(gunzip_to_temporary(file_.get(), path_));
  if (::fstat(unpacked_.get(), &info) != 0) throw Error(ErrorKind::kIo, path_, ": ", std::strerror(errno));
  text_bytes_ = static_cast<std::uint64_t>(info.st_size);
}

void JsonlFile::index() {
  std::string head(kChunkBytes, '\0');
  head.resize(read_at(text(), head.data(), head.size(), 0, path_));
  refuse_other_formats(head, path_);
  const std::uint64_t begin = head.starts_with("\xEF\xBB\xBF") ? 3 : 0;
  if (is_csv_path(path_)) return index_rows(begin, std::string_view(head).substr(begin));
  layout_ = find_json_layout(std::string_view(head).substr(begin));
  if (layout_ == JsonLayout::kLines) {
    index_lines(begin);
  } else {
    index_elements(begin);
  }
}

template <typename Finder>
void JsonlFile::feed_all(Finder& finder, std::uint64_t begin) {
  io::Sha256 hash;
  std::string chunk(kChunkBytes, '\0');
  for (std::uint64_t offset = 0; offset < text_bytes_;) {
    const std::size_t got = read_at(text(), chunk.data(), chunk.size(), offset, path_);
    if (got == 0) break;
    hash.update(chunk.data(), got);
    const std::size_t skip = offset == 0 ? begin : 0;
    finder.feed(std::string_view(chunk).substr(skip, got - skip), offset + skip);
    offset += got;
  }
  sha256_ = hash.finish();
}

void JsonlFile::index_elements(std::uint64_t begin) {
  JsonElements elements(layout_, path_);
  feed_all(elements, begin);
  lines_ = elements.finish();
}

void JsonlFile::index_rows(std::uint64_t begin, std::string_view head) {
  separator_ = csv_separator(head.substr(0, head.find('\n')));
  CsvRecords records(separator_, path_);
  feed_all(records, begin);
  lines_ = records.finish(text_bytes_);
  if (lines_.empty()) return;
  columns_ = csv_columns(read(0), separator_, source(0));
  lines_.erase(lines_.begin());
}

void JsonlFile::index_lines(std::uint64_t begin) {
  io::Sha256 hash;
  std::string chunk(kChunkBytes, '\0');
  TextRange line{begin, 0, 1};
  bool blank = true;
  const auto finish = [&](std::uint64_t end) {
    line.bytes = end - line.begin;
    if (!blank) lines_.push_back(line);
    line = {end + 1, 0, line.number + 1};
    blank = true;
  };
  for (std::uint64_t offset = 0; offset < text_bytes_;) {
    const std::size_t got = read_at(text(), chunk.data(), chunk.size(), offset, path_);
    if (got == 0) break;
    hash.update(chunk.data(), got);
    std::size_t at = offset == 0 ? begin : 0;
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
  finish(text_bytes_);
  sha256_ = hash.finish();
}

std::string JsonlFile::source(std::size_t idx) const {
  std::string name = path_ + ":" + std::to_string(line_number(idx));
  if (layout_ == JsonLayout::kArray) name += " (element " + std::to_string(idx + 1) + ")";
  return name;
}

std::string JsonlFile::read(std::size_t idx) const {
  const TextRange& line = lines_[idx];
  if (line.bytes > kMaxLineBytes)
    throw Error(source(idx), layout_ == JsonLayout::kLines ? ": a line of " : ": a sample of ", line.bytes,
                " bytes, at most ", kMaxLineBytes, " are read");
  std::string text(line.bytes, '\0');
  const std::size_t got = read_at(this->text(), text.data(), text.size(), line.begin, path_);
  check_unchanged();
  if (got != text.size()) throw Error(ErrorKind::kIo, source(idx), ": the file ends inside this sample");
  if (!text.empty() && text.back() == '\r') text.pop_back();
  return columns_.empty() ? text : csv_to_json(text, separator_, columns_, source(idx));
}

void JsonlFile::check_unchanged() const {
  struct stat info {};
  if (::fstat(file_.get(), &info) != 0) throw Error(ErrorKind::kIo, path_, ": ", std::strerror(errno));
  const bool same = static_cast<std::uint64_t>(info.st_size) == size_bytes_ &&
                    info.st_mtim.tv_sec == modified_.tv_sec && info.st_mtim.tv_nsec == modified_.tv_nsec;
  if (!same) throw Error(ErrorKind::kIo, path_, ": the file was changed while it is in use; start again");
}

}  // namespace bezel::data
