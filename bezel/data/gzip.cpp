#include "bezel/data/gzip.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <zlib.h>

#include "bezel/error.h"

namespace bezel::data {
namespace {

constexpr std::size_t kPieceBytes = std::size_t{1} << 20;

/// The temporary file, closed unless it is taken.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& for_path) : for_path_(for_path) {
    std::error_code failed;
    const std::filesystem::path found = std::filesystem::temp_directory_path(failed);
    folder_ = failed ? "/tmp" : found.string();
    std::string name = folder_ + "/bezel-XXXXXX";
    fd_ = ::mkostemp(name.data(), O_CLOEXEC);
    if (fd_ < 0) fail(std::strerror(errno));
    ::unlink(name.c_str());
  }
  ~TemporaryFile() {
    if (fd_ >= 0) ::close(fd_);
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  void write(std::string_view bytes) {
    check_room();
    while (!bytes.empty()) {
      const ssize_t done = ::write(fd_, bytes.data(), bytes.size());
      if (done < 0 && errno == EINTR) continue;
      if (done < 0) fail(std::strerror(errno));
      bytes.remove_prefix(static_cast<std::size_t>(done));
    }
  }
  int take() { return std::exchange(fd_, -1); }

 private:
  void check_room() const {
    struct statvfs info {};
    if (::fstatvfs(fd_, &info) != 0) return;
    if (info.f_bavail < info.f_blocks / 10) fail("less than a tenth of its file system is free");
  }
  [[noreturn]] void fail(std::string_view what) const {
    throw Error(ErrorKind::kIo, for_path_, ": is decompressed into ", folder_, ": ", what,
                "; set TMPDIR to a folder with more free space, or decompress it first: gunzip -k '", for_path_, "'");
  }

  const std::string& for_path_;
  std::string folder_;
  int fd_ = -1;
};

/// zlib's state, freed with its owner.
struct Inflater {
  explicit Inflater(const std::string& path) {
    constexpr int kGzipOnly = 16 + MAX_WBITS;
    if (inflateInit2(&stream, kGzipOnly) != Z_OK) throw Error(ErrorKind::kMemory, path, ": zlib cannot start");
  }
  ~Inflater() { inflateEnd(&stream); }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  z_stream stream{};
};

std::size_t read_piece(int fd, std::vector<unsigned char>& piece, off_t offset, const std::string& path) {
  for (;;) {
    const ssize_t got = ::pread(fd, piece.data(), piece.size(), offset);
    if (got >= 0) return static_cast<std::size_t>(got);
    if (errno != EINTR) throw Error(ErrorKind::kIo, path, ": ", std::strerror(errno));
  }
}

}  // namespace

int gunzip_to_temporary(int fd, const std::string& path) {
  Inflater inflater(path);
  z_stream& stream = inflater.stream;
  TemporaryFile out(path);
  std::vector<unsigned char> in(kPieceBytes), text(kPieceBytes);
  bool ended = false;
  for (off_t offset = 0;;) {
    const std::size_t got = read_piece(fd, in, offset, path);
    if (got == 0) break;
    offset += static_cast<off_t>(got);
    stream.next_in = in.data();
    stream.avail_in = static_cast<uInt>(got);
    do {
      // Files may be put together of several, as `cat a.gz b.gz` does.
      if (ended && stream.avail_in > 0) inflateReset(&stream);
      stream.next_out = text.data();
      stream.avail_out = static_cast<uInt>(text.size());
      const int state = inflate(&stream, Z_NO_FLUSH);
      if (state != Z_OK && state != Z_STREAM_END && state != Z_BUF_ERROR)
        throw Error(path, ": damaged gzip data near byte ", offset - static_cast<off_t>(stream.avail_in));
      ended = state == Z_STREAM_END;
      out.write({reinterpret_cast<const char*>(text.data()), text.size() - stream.avail_out});
    } while (stream.avail_in > 0 || stream.avail_out == 0);
  }
  if (!ended) throw Error(path, ": the gzip data end too early; incomplete download?");
  return out.take();
}

}  // namespace bezel::data
