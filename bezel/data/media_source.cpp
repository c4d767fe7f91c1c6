#include "bezel/data/media_source.h"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>

#include <sys/stat.h>

#include "bezel/error.h"

namespace bezel::data {
namespace {

std::string real_path(const std::string& path, std::string_view source, std::string_view what) {
  const std::unique_ptr<char, decltype(&std::free)> resolved(::realpath(path.c_str(), nullptr), &std::free);
  if (!resolved) throw Error(source, ": ", what, " '", path, "': ", std::strerror(errno));
  return resolved.get();
}

bool has_parent_step(std::string_view path) {
  while (!path.empty()) {
    const auto slash = path.find('/');
    if (path.substr(0, slash) == "..") return true;
    if (slash == std::string_view::npos) return false;
    path.remove_prefix(slash + 1);
  }
  return false;
}

int base64_value(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  if (c == '+' || c == '-') return 62;
  if (c == '/' || c == '_') return 63;
  return -1;
}

}  // namespace

std::string resolve_media_path(const std::string& root, const std::string& path, std::string_view source) {
  const auto refuse = [&](std::string_view why) {
    throw Error(source, ": media path '", std::string_view(path).substr(0, std::min<std::size_t>(path.find('\0'), 200)),
                "' ", why, "; give a path below the media root '", root, "'");
  };
  if (path.empty() || path.find('\0') != std::string::npos) refuse("is empty or holds a NUL byte");
  if (path.find("://") != std::string::npos || path.substr(0, 5) == "data:") refuse("is a URL, and nothing is fetched");
  if (path[0] == '/') refuse("is absolute");
  if (has_parent_step(path)) refuse("holds '..'");
  const std::string base = real_path(root, source, "media root");
  const std::string file = real_path(base + "/" + path, source, "media file");
  const std::string prefix = base == "/" ? base : base + "/";
  if (file.compare(0, prefix.size(), prefix) != 0) refuse("leads out of the media root through a symlink");
  struct stat info {};
  if (::stat(file.c_str(), &info) != 0) throw Error(source, ": media file '", file, "': ", std::strerror(errno));
  if (!S_ISREG(info.st_mode)) refuse("is not a regular file");
  return file;
}

std::string decode_base64(std::string_view text, std::string_view source) {
  std::string out;
  out.reserve(text.size() / 4 * 3 + 3);
  std::uint32_t bits = 0;
  int num_bits = 0;
  bool ended = false;
  for (const char c : text) {
    if (c == '\n' || c == '\r' || c == ' ') continue;
    if (c == '=') {
      ended = true;
      continue;
    }
    const int value = base64_value(c);
    if (value < 0 || ended) throw Error(source, ": media data that is not base64");
    bits = bits << 6 | static_cast<std::uint32_t>(value);
    num_bits += 6;
    if (num_bits < 8) continue;
    num_bits -= 8;
    out += static_cast<char>(bits >> num_bits & 0xFF);
  }
  if (out.empty()) throw Error(source, ": media data that is empty");
  return out;
}

}  // namespace bezel::data
