#include "bezel/io/home_path.h"

#include <cstdlib>

#include <pwd.h>
#include <unistd.h>

namespace bezel::io {

std::string home_folder() {
  if (const char* const home = std::getenv("HOME"); home != nullptr && *home != '\0') return home;
  const passwd* const account = ::getpwuid(::getuid());
  return account == nullptr || account->pw_dir == nullptr ? "" : account->pw_dir;
}

std::string expand_home(const std::string& path) {
  if (path != "~" && !path.starts_with("~/")) return path;
  const std::string home = home_folder();
  return home.empty() ? path : home + path.substr(1);
}

}  // namespace bezel::io
