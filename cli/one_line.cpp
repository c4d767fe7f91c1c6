#include "cli/one_line.h"

#include "bezel/error.h"

namespace bezel::cli {

std::string one_line(const std::string& text) {
  // A recipe of another tool may have dozens of keys to report.
  constexpr std::size_t kMaxBytes = 16000;
  std::string out = printable(text);
  if (out.size() <= kMaxBytes) return out;
  std::size_t end = kMaxBytes;
  while (end > 0 && (static_cast<unsigned char>(out[end]) & 0xC0u) == 0x80u) --end;
  return out.substr(0, end) + " …";
}

}  // namespace bezel::cli
