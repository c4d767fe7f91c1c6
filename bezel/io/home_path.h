#pragma once

#include <string>

namespace bezel::io {

/// `path` with a leading "~" or "~/" replaced by the home folder (HOME, else that of the user's account), as shells do.
/// "~name" and a "~" elsewhere stay.
std::string expand_home(const std::string& path);

/// The home folder; "" when it is unknown.
std::string home_folder();

}  // namespace bezel::io
