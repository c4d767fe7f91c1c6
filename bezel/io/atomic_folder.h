#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace bezel::io {

/// Replaces folder `path` by what `fill` writes into the empty folder that it is given, wholly or not at all:
/// "<path>.tmp" is filled, flushed to disk and renamed. When anything fails, `fill` included, what was there stays.
/// `fill` flushes the files it writes (write_file_atomically does). Throws Error (kIo), and whatever `fill` throws.
/// A process killed half-way leaves "<path>.tmp" behind.
void write_folder_atomically(const std::string& path, const std::function<void(const std::string&)>& fill);

/// Removes a folder so that a process killed half-way leaves it whole, or as "<path>.tmp". Throws Error (kIo).
void remove_folder(const std::string& path);

/// Removes what killed processes left directly in `folder`: temporary files of write_file_atomically, and folders
/// "<prefix>….tmp". Nobody else may be writing there. Returns their names; what cannot be removed stays, silently.
std::vector<std::string> remove_leftovers(const std::string& folder, std::string_view prefix);

}  // namespace bezel::io
