#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bezel/io/ocdbt.h"

namespace bezel::io {

/// One array that a checkpoint's _METADATA names.
struct ZarrName {
  std::vector<std::string> path;  ///< segments, which may hold a "/"

  /// The array's name in the store: the segments joined with ".".
  std::string text() const;
};

/// The checkpoint of Orbax (_METADATA, manifest.ocdbt) in `folder`, or in its params, default or state;
/// nothing when there is none.
std::optional<std::string> find_orbax_folder(const std::string& folder);

/// The keys and values of an Orbax checkpoint: in an OCDBT store, or as files of a folder.
class ZarrStore {
 public:
  /// Opens the checkpoint that find_orbax_folder finds. Reads _METADATA and the
  /// nodes of OCDBT. Throws Error naming the file when one is missing, damaged or of an unknown form.
  static ZarrStore open(const std::string& folder);

  const std::string& folder() const { return folder_; }
  /// Every array that _METADATA names, in its order.
  const std::vector<ZarrName>& names() const { return names_; }
  /// The value of `key`, or nothing. Throws Error (kIo) when it is a file that cannot be opened.
  std::optional<OcdbtValue> find(const std::string& key) const;

 private:
  std::string folder_;
  std::vector<ZarrName> names_;
  std::shared_ptr<const Ocdbt> ocdbt_;  ///< null: files of a folder
};

}  // namespace bezel::io
