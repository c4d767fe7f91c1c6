#include "bezel/io/new_folder.h"

#include <unistd.h>

#include "bezel/error.h"

namespace bezel::io {

namespace fs = std::filesystem;

NewFolder::NewFolder(const std::string& output) : output_(fs::path(output).lexically_normal()) {
  if (!output_.has_filename()) output_ = output_.parent_path();  // a trailing slash
  std::error_code error;
  if (output.empty() || fs::exists(fs::symlink_status(output_, error)))  // `error` says that nothing is there
    throw Error(ErrorKind::kConfig, "'", output, "': exists; --output takes a new folder");
  half_ = output_;
  half_ += "." + std::to_string(::getpid()) + ".tmp";
  error.clear();
  if (output_.has_parent_path()) fs::create_directories(output_.parent_path(), error);
  if (error || !fs::create_directory(half_, error))
    throw Error(ErrorKind::kIo, half_.string(), ": cannot be made: ", error ? error.message() : "it exists");
}

NewFolder::~NewFolder() {
  std::error_code error;
  if (!done_) fs::remove_all(half_, error);
}

void NewFolder::copy_files(const std::string& folder,
                           const std::function<bool(const std::string& name)>& wanted) const {
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (!entry.is_regular_file() || !wanted(name)) continue;
    std::error_code error;
    fs::copy_file(entry.path(), half_ / name, error);
    if (error) throw Error(ErrorKind::kIo, entry.path().string(), ": cannot be copied: ", error.message());
  }
}

void NewFolder::commit() {
  std::error_code error;
  // Renaming would replace an empty folder.
  if (fs::exists(fs::symlink_status(output_, error)))
    throw Error(ErrorKind::kIo, output_.string(), ": somebody else has made it meanwhile");
  fs::rename(half_, output_, error);
  if (error)
    throw Error(ErrorKind::kIo, output_.string(), ": ", half_.string(), " cannot be renamed to it: ", error.message());
  done_ = true;
}

}  // namespace bezel::io
