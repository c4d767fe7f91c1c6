#include "bezel/train/metrics_file.h"

#include <cerrno>
#include <cmath>
#include <cstring>

#include <fcntl.h>
#include <unistd.h>

#include "bezel/error.h"
#include "bezel/io/atomic_write.h"
#include "bezel/io/regular_file.h"

namespace bezel::train {

io::Json json_number(double value) { return std::isfinite(value) ? io::Json(value) : io::Json(nullptr); }

io::Json with_metrics(io::Json row, const std::map<std::string, double>& metrics, const std::string& prefix) {
  for (const auto& [name, value] : metrics) row[prefix + name] = json_number(value);
  return row;
}

void MetricsFile::begin(const std::string& path, const std::string& text) {
  io::write_file_atomically(path, text);
  path_ = path;
  written_bytes_ = text.size();
}

void MetricsFile::add(const io::Json& line) {
  if (path_.empty()) return;
  pending_ += line.dump() + "\n";
  flush();
}

std::string MetricsFile::text() const {
  if (path_.empty()) return "";
  std::string text(written_bytes_ + pending_.size(), '\0');
  text.resize(io::RegularFile(path_).read(text.data(), written_bytes_, 0));
  return text += pending_;
}

void MetricsFile::finish() {
  if (!flush()) throw Error(ErrorKind::kIo, path_, ": cannot be written: ", std::strerror(errno));
}

bool MetricsFile::flush() {
  if (pending_.empty()) return true;
  const int fd = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0) return false;
  bool good = true;
  std::size_t done = 0;
  while (good && done < pending_.size()) {
    // By offset: what an earlier try wrote of a line is written over.
    const ssize_t put =
        ::pwrite(fd, pending_.data() + done, pending_.size() - done, static_cast<off_t>(written_bytes_ + done));
    if (put < 0 && errno == EINTR) continue;
    good = put > 0;
    if (good) done += static_cast<std::size_t>(put);
  }
  const int error = errno;
  if (::close(fd) != 0) good = false;
  if (!good) {
    errno = error;
    return false;
  }
  written_bytes_ += pending_.size();
  pending_.clear();
  return true;
}

}  // namespace bezel::train
