#pragma once

#include <ctime>
#include <string>
#include <vector>

#include <sys/types.h>

namespace bezel::io {

/// Files that must stay as they are while a program uses them: mapped weights, a data set.
class FileWatch {
 public:
  /// Remembers what `path` is now. Throws Error (kIo) when it cannot be looked at.
  void add(const std::string& path);
  /// Throws Error (kIo) naming the first file that was replaced, truncated, changed or removed since it was added.
  void check() const;

 private:
  struct File {
    std::string path;
    dev_t device = 0;
    ino_t inode = 0;
    off_t size_bytes = 0;
    std::timespec modified{};
  };

  static bool look_at(const std::string& path, File& file);

  std::vector<File> files_;
};

}  // namespace bezel::io
