#pragma once

#include <cstddef>
#include <string>

namespace bezel::io {

/// From here on, touching mapped pages that a file no longer has does not kill the process (SIGBUS): the pages read as
/// zeros, and throw_if_torn() says so. Takes the process's SIGBUS handler, so programs call it, not the library; faults
/// outside maps of MappedFile go on as before.
void survive_torn_maps();

/// Throws Error (kIo) naming the file when a mapped page was gone when it was needed: what was computed since may be
/// wrong. It stays so until the process ends.
void throw_if_torn();

/// Watches [begin, begin + size) for throw_if_torn(), as the map of `path`. Returns a handle for unwatch_map, or -1
/// when too many are watched already: that one is then left as it is.
int watch_map(const void* begin, std::size_t size_bytes, const std::string& path);
void unwatch_map(int handle);

}  // namespace bezel::io
