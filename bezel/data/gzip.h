#pragma once

#include <string>

namespace bezel::data {

/// Decompresses the gzip file open at `fd` into a file in the system's folder for temporary files (TMPDIR, or /tmp)
/// that has no name and vanishes with its descriptor, which is returned; memory does not grow with the text. Throws
/// Error when the data are damaged or cut off, Error (kIo) when reading or writing fails or when less than a tenth of
/// that file system would stay free.
int gunzip_to_temporary(int fd, const std::string& path);

}  // namespace bezel::data
