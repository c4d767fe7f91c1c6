#pragma once

#include <cstddef>
#include <cstdint>
#include <ctime>
#include <string>
#include <vector>

namespace bezel::data {

/// Longest line that is read.
inline constexpr std::size_t kMaxLineBytes = std::size_t{64} << 20;

/// The non-blank lines of a file, found in one pass and read one by one, so memory does not grow with the text.
/// A byte order mark at the start and CR before LF are no part of a line.
class JsonlFile {
 public:
  /// Throws Error (kIo) when `path` cannot be opened or read, Error when it is no regular file.
  explicit JsonlFile(std::string path);

  const std::string& path() const { return path_; }
  std::size_t size() const { return lines_.size(); }
  /// Number of line `idx` as an editor counts, from 1.
  std::size_t line_number(std::size_t idx) const { return lines_[idx].number; }
  /// "path:line" for errors.
  std::string source(std::size_t idx) const;
  /// SHA-256 of the file's bytes.
  const std::string& sha256() const { return sha256_; }
  /// Throws Error when the line is longer than kMaxLineBytes, Error (kIo) when the file has changed since it was
  /// opened.
  std::string read(std::size_t idx) const;

 private:
  struct Line {
    std::uint64_t begin = 0;
    std::uint64_t bytes = 0;
    std::size_t number = 0;
  };

  /// An open file, closed with its owner.
  class Descriptor {
   public:
    explicit Descriptor(int fd) : fd_(fd) {}
    ~Descriptor();
    Descriptor(Descriptor&& other) noexcept;
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    int get() const { return fd_; }

   private:
    int fd_;
  };

  void index();
  void check_unchanged() const;

  std::string path_;
  Descriptor file_;
  std::uint64_t size_bytes_ = 0;
  std::timespec modified_{};
  std::vector<Line> lines_;
  std::string sha256_;
};

}  // namespace bezel::data
