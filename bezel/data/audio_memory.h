#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <span>

#include <sndfile.h>

namespace bezel::data {

/// Bytes in memory as libsndfile's virtual file. Borrows the bytes.
struct AudioMemory {
  std::span<const std::byte> bytes;
  sf_count_t at = 0;

  /// Opens it for reading; null when libsndfile cannot. The result must not outlive this object.
  SNDFILE* open(SF_INFO& info) {
    SF_VIRTUAL_IO io{length, seek, read, write, tell};
    return sf_open_virtual(&io, SFM_READ, &info, this);
  }

 private:
  static AudioMemory& self(void* user) { return *static_cast<AudioMemory*>(user); }
  static sf_count_t length(void* user) { return static_cast<sf_count_t>(self(user).bytes.size()); }
  static sf_count_t tell(void* user) { return self(user).at; }
  static sf_count_t write(const void*, sf_count_t, void*) { return 0; }

  static sf_count_t seek(sf_count_t offset, int whence, void* user) {
    AudioMemory& file = self(user);
    const sf_count_t size = length(user);
    const sf_count_t base = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? file.at : size;
    // Clamped to the file by comparing, so that no sum wraps.
    if (offset < -base) {
      file.at = 0;
    } else {
      file.at = offset > size - base ? size : base + offset;
    }
    return file.at;
  }

  static sf_count_t read(void* out, sf_count_t count, void* user) {
    AudioMemory& file = self(user);
    const sf_count_t n = std::clamp<sf_count_t>(count, 0, length(user) - file.at);
    if (n > 0) std::memcpy(out, file.bytes.data() + file.at, static_cast<std::size_t>(n));
    file.at += n;
    return n;
  }
};

}  // namespace bezel::data
