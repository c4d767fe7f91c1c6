#include "bezel/io/atomic_folder.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bezel/error.h"
#include "bezel/io/atomic_write.h"

namespace bezel::io {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSuffix = ".tmp";

[[noreturn]] void fail(const std::string& path, std::string_view what, const std::string& why) {
  throw Error(ErrorKind::kIo, path, ": ", what, ": ", why);
}

std::string temporary_name(const std::string& path) { return path + std::string(kSuffix); }

std::string parent_of(const std::string& path) {
  const fs::path parent = fs::path(path).parent_path();
  return parent.empty() ? "." : parent.string();
}

void remove_all(const std::string& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) fail(path, "cannot be removed", error.message());
}

// Puts `temporary` in the place of `path`; what was there is at `temporary` afterwards, or gone.
void exchange(const std::string& temporary, const std::string& path) {
  if (::rename(temporary.c_str(), path.c_str()) == 0) return;
  if (errno != ENOTEMPTY && errno != EEXIST && errno != ENOTDIR) fail(path, "cannot be replaced", std::strerror(errno));
  if (::renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, path.c_str(), RENAME_EXCHANGE) == 0) return;
  // Network file systems cannot exchange two folders.
  if (errno != EINVAL && errno != ENOSYS) fail(path, "cannot be replaced", std::strerror(errno));
  remove_all(path);
  if (::rename(temporary.c_str(), path.c_str()) != 0) fail(path, "cannot be replaced", std::strerror(errno));
}

// "<name>.<pid>-<n>.tmp", as write_file_atomically makes them.
bool is_temporary_file(std::string_view name) {
  if (!name.ends_with(kSuffix)) return false;
  name.remove_suffix(kSuffix.size());
  const auto dot = name.rfind('.');
  if (dot == std::string_view::npos) return false;
  const std::string_view numbers = name.substr(dot + 1);
  const auto dash = numbers.find('-');
  const auto is_number = [](std::string_view text) {
    return !text.empty() && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
  };
  return dash != std::string_view::npos && is_number(numbers.substr(0, dash)) && is_number(numbers.substr(dash + 1));
}

}  // namespace

void write_folder_atomically(const std::string& path, const std::function<void(const std::string&)>& fill) {
  const std::string temporary = temporary_name(path);
  remove_all(temporary);
  if (::mkdir(temporary.c_str(), 0777) != 0) fail(path, "cannot be written", std::strerror(errno));
  try {
    fill(temporary);
    flush_folder(temporary);
    exchange(temporary, path);
  } catch (const Error&) {
    std::error_code ignored;
    fs::remove_all(temporary, ignored);
    throw;
  }
  flush_folder(parent_of(path));
  remove_all(temporary);
}

void remove_folder(const std::string& path) {
  const std::string temporary = temporary_name(path);
  remove_all(temporary);
  if (::rename(path.c_str(), temporary.c_str()) != 0) {
    if (errno == ENOENT) return;
    fail(path, "cannot be removed", std::strerror(errno));
  }
  remove_all(temporary);
}

std::vector<std::string> remove_leftovers(const std::string& folder, std::string_view prefix) {
  std::vector<std::string> removed;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    std::error_code ignored;
    const bool is_folder = fs::is_directory(entry.symlink_status(ignored));
    if (is_folder ? name.starts_with(prefix) && name.ends_with(kSuffix) : is_temporary_file(name))
      removed.push_back(name);
  }
  for (const std::string& name : removed) fs::remove_all(fs::path(folder) / name, error);
  return removed;
}

}  // namespace bezel::io
