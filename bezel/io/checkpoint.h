#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "bezel/io/safetensors.h"

namespace bezel::io {

/// The weights of a Hugging Face checkpoint folder: one file, or shards with an index.
class Checkpoint {
 public:
  struct Entry {
    std::shared_ptr<const SafetensorsFile> file;
    const TensorInfo* info = nullptr;  ///< owned by `file`
  };
  using Entries = std::map<std::string, Entry, std::less<>>;

  /// Opens `folder`/model.safetensors, else the shards of `folder`/model.safetensors.index.json. Reads headers only.
  /// All are regular files inside the folder (or the Hugging Face cache's blobs); shards hold exactly the tensors that
  /// the index lists for them. Throws Error saying what was looked for, or what is wrong where.
  static Checkpoint open(const std::string& folder);
  /// Whether `folder` holds a file that open() would begin with.
  static bool has_weights(const std::string& folder);

  /// Every tensor under the name it is stored by.
  const Entries& entries() const { return entries_; }
  /// Bezel's name of the tensor stored as `name` (io/key_map), which of the unified model depends on the others.
  std::string canonical_name(std::string_view name) const;
  /// The tensor stored as `name`, or null.
  const Entry* find(std::string_view name) const;
  const std::string& folder() const { return folder_; }
  /// Files of the folder that look like weights and were skipped.
  const std::vector<std::string>& warnings() const { return warnings_; }

 private:
  explicit Checkpoint(std::string folder);

  void open_shards(const std::string& index_path);
  void find_patch_embedder();

  std::string folder_;
  Entries entries_;
  bool unified_ = false;  ///< it holds a patch embedder
  std::vector<std::string> warnings_;
};

}  // namespace bezel::io
