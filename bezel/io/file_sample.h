#pragma once

#include <cstdint>

#include "bezel/io/regular_file.h"
#include "bezel/io/sha256.h"

namespace bezel::io {

/// Adds `size_bytes` bytes of a file from `begin` on to `hash`: all of up to 12 KiB, else 4 KiB each at begin, middle
/// and end. Throws Error (kIo) when they cannot be read.
void update_with_samples(Sha256& hash, const RegularFile& file, std::uint64_t begin, std::uint64_t size_bytes);

}  // namespace bezel::io
