#include "bezel/io/file_watch.h"

#include <cerrno>
#include <cstring>

#include <sys/stat.h>

#include "bezel/error.h"

namespace bezel::io {

bool FileWatch::look_at(const std::string& path, File& file) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return false;
  file = {path, info.st_dev, info.st_ino, info.st_size, info.st_mtim};
  return true;
}

void FileWatch::add(const std::string& path) {
  File file;
  if (!look_at(path, file)) throw Error(ErrorKind::kIo, path, ": ", std::strerror(errno));
  files_.push_back(file);
}

void FileWatch::check() const {
  constexpr const char* kAdvice = " while it was in use; put the file back and resume from the last checkpoint";
  for (const File& was : files_) {
    File now;
    if (!look_at(was.path, now)) throw Error(ErrorKind::kIo, was.path, ": ", std::strerror(errno), kAdvice);
    if (now.device != was.device || now.inode != was.inode)
      throw Error(ErrorKind::kIo, was.path, ": was replaced by another file", kAdvice);
    if (now.size_bytes != was.size_bytes)
      throw Error(ErrorKind::kIo, was.path, ": went from ", was.size_bytes, " to ", now.size_bytes, " bytes", kAdvice);
    if (now.modified.tv_sec != was.modified.tv_sec || now.modified.tv_nsec != was.modified.tv_nsec)
      throw Error(ErrorKind::kIo, was.path, ": was written to", kAdvice);
  }
}

}  // namespace bezel::io
