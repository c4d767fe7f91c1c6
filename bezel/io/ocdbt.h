#pragma once

#include <map>
#include <string>
#include <string_view>

#include "bezel/io/ocdbt_value.h"

namespace bezel::io {

/// The newest version of an OCDBT key-value store (tensorstore's, which Orbax writes), read-only.
/// Reference: https://google.github.io/tensorstore/kvstore/ocdbt/index.html#storage-format
class Ocdbt {
 public:
  using Values = std::map<std::string, OcdbtValue, std::less<>>;

  /// Reads `folder`/manifest.ocdbt and every node of the tree, but no large value. Throws Error naming the file when a
  /// block is damaged, a path leads out of the folder, keys are out of order or their number is not the stated one.
  static Ocdbt open(const std::string& folder);

  const Values& values() const { return values_; }
  /// The value of `key`, or null.
  const OcdbtValue* find(std::string_view key) const;

 private:
  Values values_;
};

}  // namespace bezel::io
