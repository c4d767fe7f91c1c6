#include "bezel/data/media_source.h"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>

#include <sys/stat.h>

#include "bezel/error.h"

namespace bezel::data {
namespace {

namespace fs = std::filesystem;

std::string real_path(const std::string& path, std::string_view source, std::string_view what) {
  const std::unique_ptr<char, decltype(&std::free)> resolved(::realpath(path.c_str(), nullptr), &std::free);
  if (!resolved) throw Error(source, ": ", what, " '", path, "': ", std::strerror(errno));
  return resolved.get();
}

std::string slashed(const fs::path& folder) {
  std::string text = folder.lexically_normal().string();
  if (!text.ends_with('/')) text += '/';
  return text;
}

// `name` as a path below the root without '..'; nothing when it leads out. The root is known by two names, as the
// config spells it and with its links followed.
std::optional<std::string> path_inside(const std::string& root, const std::string& base, const std::string& name) {
  const fs::path path(name);
  for (const std::string& folder : {slashed(fs::absolute(root)), slashed(base)}) {
    const std::string whole = (path.is_absolute() ? path : fs::path(folder) / path).lexically_normal().string();
    if (whole.starts_with(folder)) return whole.substr(folder.size());
  }
  return std::nullopt;
}

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// The path of a file: URL, whose bytes may be written as %20.
std::string without_percents(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool escaped =
        text[i] == '%' && i + 2 < text.size() && hex_value(text[i + 1]) >= 0 && hex_value(text[i + 2]) >= 0;
    out += escaped ? static_cast<char>(hex_value(text[i + 1]) * 16 + hex_value(text[i + 2])) : text[i];
    if (escaped) i += 2;
  }
  return out;
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

std::string resolve_media_path(const std::string& root, const std::string& path, std::string_view source,
                               bool or_folder) {
  const auto refuse = [&](std::string_view why) {
    throw Error(source, ": media path '", std::string_view(path).substr(0, std::min<std::size_t>(path.find('\0'), 200)),
                "' ", why, "; give a path below the media root '", root, "'");
  };
  if (path.empty() || path.find('\0') != std::string::npos) refuse("is empty or holds a NUL byte");
  const std::string name = path.starts_with("file:///") ? without_percents(path.substr(7)) : path;
  if (name.find("://") != std::string::npos || name.starts_with("data:")) refuse("is a URL, and nothing is fetched");
  if (name.find('\0') != std::string::npos) refuse("holds a NUL byte");
  const std::string base = real_path(root, source, "media root");
  const std::string prefix = base == "/" ? base : base + "/";
  // Names that lead elsewhere are refused before anything outside of the root is looked at.
  const auto inside = path_inside(root, base, name);
  if (!inside)
    refuse(name[0] == '/' ? "is absolute and leads out of the media root" : "holds '..' and leads out of it");
  if (inside->empty()) refuse("names the media root itself");
  const std::string file = real_path(prefix + *inside, source, "media file");
  if (file.compare(0, prefix.size(), prefix) != 0) refuse("leads out of the media root through a symlink");
  struct stat info {};
  if (::stat(file.c_str(), &info) != 0) throw Error(source, ": media file '", file, "': ", std::strerror(errno));
  if (!S_ISREG(info.st_mode) && !(or_folder && S_ISDIR(info.st_mode))) refuse("is not a regular file");
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
