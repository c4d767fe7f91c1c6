#pragma once

#include <string>
#include <string_view>

namespace bezel::data {

/// Whether a file that begins with `head` is compressed by gzip.
bool is_gzip(std::string_view head);

/// Throws Error when `head`, the first bytes of a file, shows that it is no text in UTF-8 but a Parquet, Arrow, SQLite,
/// zip, xlsx, tar or other known file. The message names the kind and the command that converts it.
void refuse_other_formats(std::string_view head, const std::string& path);

}  // namespace bezel::data
