#pragma once

#include <string>
#include <string_view>

namespace bezel::io {

/// Throws Error when a file of a model, which begins with `begin`, is a stand-in for it: a Git LFS or Xet pointer, a
/// web page, or the one line of text that a hub answers instead of a file. Says how to get the file itself.
void refuse_placeholder(const std::string& path, std::string_view begin);

}  // namespace bezel::io
