#pragma once

#include <filesystem>
#include <functional>
#include <string>

namespace bezel::io {

/// A folder that appears whole or not at all: it is filled under a name of its own beside `output` and renamed by
/// commit(). Without commit() it goes away with its content; a process that is killed leaves "<output>.<pid>.tmp".
class NewFolder {
 public:
  /// Makes the folder and its parents. Throws Error (kConfig) when `output` exists, Error (kIo) when it cannot be made.
  explicit NewFolder(const std::string& output);
  NewFolder(const NewFolder&) = delete;
  NewFolder& operator=(const NewFolder&) = delete;
  ~NewFolder();

  /// Where to write until then.
  const std::filesystem::path& path() const { return half_; }
  /// Copies the regular files of `folder` (not of folders in it) whose names are `wanted`. Throws Error (kIo).
  void copy_files(const std::string& folder, const std::function<bool(const std::string& name)>& wanted) const;
  /// Throws Error (kIo) when the folder cannot be renamed, because `output` is there by now, for one.
  void commit();

 private:
  std::filesystem::path output_;
  std::filesystem::path half_;
  bool done_ = false;
};

}  // namespace bezel::io
