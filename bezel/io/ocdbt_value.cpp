#include "bezel/io/ocdbt_value.h"

#include <cstring>

#include "bezel/error.h"
#include "bezel/io/regular_file.h"

namespace bezel::io {

OcdbtValue OcdbtValue::of_file(const std::string& path) { return {path, 0, RegularFile(path).size_bytes()}; }

void OcdbtValue::check_range(std::uint64_t offset_bytes, std::uint64_t length_bytes) const {
  if (offset_bytes > length_bytes_ || length_bytes > length_bytes_ - offset_bytes)
    throw Error(path_.empty() ? "value" : path_, ": bytes ", offset_bytes, " to ", offset_bytes, " + ", length_bytes,
                " of a value of ", length_bytes_, " bytes were asked for");
}

void OcdbtValue::read(std::uint64_t offset_bytes, std::span<std::byte> to) const {
  check_range(offset_bytes, to.size());
  if (path_.empty()) {
    std::memcpy(to.data(), bytes_.data() + offset_bytes, to.size());
    return;
  }
  const RegularFile file(path_);
  const bool inside = offset_bytes_ <= file.size_bytes() && length_bytes_ <= file.size_bytes() - offset_bytes_;
  if (!inside || file.read(reinterpret_cast<char*>(to.data()), to.size(), offset_bytes_ + offset_bytes) < to.size())
    throw Error(path_, ": the file has ", file.size_bytes(), " bytes, a value of ", length_bytes_,
                " bytes is expected at byte ", offset_bytes_, "; the file is truncated, fetch it again");
}

OcdbtValue OcdbtValue::slice(std::uint64_t offset_bytes, std::uint64_t length_bytes) const {
  check_range(offset_bytes, length_bytes);
  if (path_.empty()) return OcdbtValue(bytes_.substr(offset_bytes, length_bytes));
  return {path_, offset_bytes_ + offset_bytes, length_bytes};
}

std::string OcdbtValue::text(std::uint64_t max_bytes) const {
  if (length_bytes_ > max_bytes)
    throw Error(path_.empty() ? "value" : path_, ": a value of ", length_bytes_, " bytes, expected at most ",
                max_bytes);
  std::string text(length_bytes_, '\0');
  read(0, std::as_writable_bytes(std::span(text)));
  return text;
}

}  // namespace bezel::io
