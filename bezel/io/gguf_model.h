#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "bezel/io/gguf.h"

namespace bezel::io {

/// Whether `path` names a GGUF file rather than a checkpoint folder: by its ending, `.gguf`.
bool is_gguf_path(const std::string& path);

/// A model in a GGUF file, or in several (`…-00001-of-00003.gguf`), with the towers of Gemma 4 in an `mmproj` file
/// beside it.
class GgufModel {
 public:
  struct Entry {
    std::shared_ptr<const GgufFile> file;
    const GgufTensor* info = nullptr;  ///< owned by `file`
  };
  using Entries = std::map<std::string, Entry, std::less<>>;

  /// Opens `path`, the only part or the first, and with it the others, and the file of its towers: `mmproj-` before the
  /// name of `path`, else the only one in its folder whose name begins so; it must say that it is for a Gemma 4 of this
  /// size. `towers`: that file, where the user names it. Throws Error naming the part that is missing, is not the one
  /// its name says, or repeats a tensor, and the named file of towers that is not for this model; and as GgufFile::open
  /// does.
  static GgufModel open(const std::string& path, const std::string& towers = "");

  const std::vector<std::shared_ptr<const GgufFile>>& parts() const { return parts_; }
  /// The file of the towers, or null.
  const GgufFile* towers() const { return towers_.get(); }
  /// The part that has the metadata.
  const GgufFile& metadata() const { return *parts_.front(); }
  /// Every tensor of all parts, and of the towers.
  const Entries& entries() const { return entries_; }
  const Entry* find(std::string_view name) const;
  const std::string& path() const { return metadata().path(); }

 private:
  void open_others(std::int64_t count);
  void list_tensors();
  void find_towers();
  void take_towers(std::shared_ptr<const GgufFile> file);
  bool are_its_towers(const GgufFile& file) const;
  [[noreturn]] void refuse_towers(const GgufFile& file) const;

  std::vector<std::shared_ptr<const GgufFile>> parts_;
  std::shared_ptr<const GgufFile> towers_;
  Entries entries_;
};

}  // namespace bezel::io
