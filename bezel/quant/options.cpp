#include "bezel/quant/options.h"

#include "bezel/error.h"
#include "bezel/io/pattern.h"

namespace bezel::quant {

Storage parse_storage(std::string_view name) {
  if (name == "dense") return Storage::kDense;
  if (name == "nf4") return Storage::kNf4;
  if (name == "int8") return Storage::kInt8;
  throw Error(ErrorKind::kConfig, "storage '", name, "': expected dense, nf4 or int8");
}

bool is_skipped(std::string_view name, const std::vector<std::string>& patterns) {
  for (const std::string& pattern : patterns) {
    if (name.ends_with(pattern)) return true;
    if (pattern.ends_with('.') && name.starts_with(pattern)) return true;
    if (io::Pattern("(?:" + pattern + ")(?=\\.|$)", "quantize_skip").matches_begin(name)) return true;
  }
  return false;
}

}  // namespace bezel::quant
