#pragma once

#include <string>

namespace bezel::io {

/// Writes `folder`/MANIFEST.json: size and SHA-256 of every file in the folder, which holds regular files
/// only. Throws Error (kIo).
void write_manifest(const std::string& folder);

/// Throws Error naming the file when MANIFEST.json is missing or broken, or when a file that it lists is missing, has
/// another size or other bytes. Files that it does not list are not looked at.
void check_manifest(const std::string& folder);

}  // namespace bezel::io
