#pragma once

#include <cstddef>
#include <cstdint>
#include <ctime>
#include <string>
#include <string_view>
#include <vector>

#include "bezel/data/json_elements.h"

namespace bezel::data {

/// Longest line or sample that is read.
inline constexpr std::size_t kMaxLineBytes = std::size_t{64} << 20;

/// The samples of a text file, found in one pass and read one by one, so memory does not grow with the text: non-blank
/// lines, the elements of a JSON array, JSON objects over several lines, or in a file named .csv or
/// .tsv the rows below the header (data/csv.h). A byte order mark at the start and CR
/// before LF are no part of a line. A gzip file is decompressed into a temporary file first (data/gzip.h).
class JsonlFile {
 public:
  /// Throws Error (kIo) when `path` cannot be opened or read, Error when it is no regular file, no text in UTF-8
  /// (data/data_format.h), damaged gzip data, or JSON whose samples cannot be separated (data/json_elements.h).
  explicit JsonlFile(std::string path);

  const std::string& path() const { return path_; }
  std::size_t size() const { return lines_.size(); }
  /// Number of the line where sample `idx` begins, as an editor counts, from 1.
  std::size_t line_number(std::size_t idx) const { return lines_[idx].number; }
  /// "path:line" for errors; of an array "path:line (element N)", N from 1.
  std::string source(std::size_t idx) const;
  /// SHA-256 of the text's bytes.
  const std::string& sha256() const { return sha256_; }
  /// Throws Error when the sample is longer than kMaxLineBytes, Error (kIo) when the file has changed since it was
  /// opened.
  std::string read(std::size_t idx) const;

 private:
  /// An open file, closed with its owner.
  class Descriptor {
   public:
    explicit Descriptor(int fd) : fd_(fd) {}
    ~Descriptor();
    Descriptor(Descriptor&& other) noexcept;
    Descriptor& operator=(Descriptor&& other) noexcept;
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    int get() const { return fd_; }

   private:
    int fd_;
  };

  int text() const { return unpacked_.get() < 0 ? file_.get() : unpacked_.get(); }
  void open_text();
  void index();
  void index_lines(std::uint64_t begin);
  void index_rows(std::uint64_t begin, std::string_view head);
  template <typename Finder>
  void feed_all(Finder& finder, std::uint64_t begin);
  void index_elements(std::uint64_t begin);
  void check_unchanged() const;

  std::string path_;
  Descriptor file_;
  Descriptor unpacked_{-1};       // the text of a gzip file
  std::uint64_t size_bytes_ = 0;  // of the file
  std::uint64_t text_bytes_ = 0;  // of what is in it
  JsonLayout layout_ = JsonLayout::kLines;
  std::vector<std::string> columns_;  // of a table
  char separator_ = ',';
  std::timespec modified_{};
  std::vector<TextRange> lines_;
  std::string sha256_;
};

}  // namespace bezel::data
