#include "bezel/report/html_text.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "bezel/input/media_kind.h"
#include "bezel/io/json.h"

namespace bezel::report {
namespace {

std::string printed(const char* format, double value) {
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, format, value);
  return buffer;
}

std::string with_commas(const std::string& digits) {
  const std::size_t end = std::min(digits.find('.'), digits.size());
  std::string out;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    out += digits[i];
    if (i + 1 < end && (end - 1 - i) % 3 == 0 && digits[i] != '-') out += ',';
  }
  return out;
}

// "2.50e-04" as "2.5e-4".
std::string short_exponent(const std::string& text) {
  const auto e = text.find('e');
  std::string digits = text.substr(0, e);
  if (digits.find('.') != std::string::npos) {
    digits.erase(digits.find_last_not_of('0') + 1);
    if (digits.ends_with('.')) digits.pop_back();
  }
  return digits + "e" + std::to_string(std::stoi(text.substr(e + 1)));
}

// The JSON library's writer replaces broken UTF-8; its quotes and escapes are taken off again.
std::string valid_utf8(std::string_view text) {
  const std::string json = io::Json(std::string(text)).dump(-1, ' ', false, io::Json::error_handler_t::replace);
  return io::Json::parse(json).get<std::string>();
}

}  // namespace

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : valid_utf8(text)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        if (static_cast<unsigned char>(c) >= 0x20 || c == '\n' || c == '\t') out += c;
    }
  }
  return out;
}

std::string asked_text(std::string_view prompt) {
  constexpr std::string_view kBos = "<bos>";
  if (prompt.starts_with(kBos)) prompt.remove_prefix(kBos.size());
  for (const std::string_view begin : {"<|turn>user\n", "<start_of_turn>user\n"})
    if (const auto turn = prompt.rfind(begin); turn != prompt.npos) {
      prompt.remove_prefix(turn + begin.size());
      prompt = prompt.substr(0, std::min(prompt.find("<turn|>"), prompt.find("<end_of_turn>")));
    }
  std::string out(prompt);
  for (const input::MediaWords& words : input::kMediaWords.values) {
    const std::string_view mark = words.placeholder;
    const std::string word = "[" + std::string(words.item) + "] ";
    for (auto at = out.find(mark); at != out.npos; at = out.find(mark)) out.replace(at, mark.size(), word);
  }
  return out;
}

std::string number_text(double value, int digits) {
  if (std::isnan(value)) return "–";
  if (std::isinf(value)) return value > 0 ? "∞" : "-∞";
  if (value == 0) return "0";
  const double size = std::abs(value);
  char buffer[64];
  if (size < 1e-3 || size >= 1e7) {
    std::snprintf(buffer, sizeof buffer, "%.*e", std::max(0, digits - 2), value);
    return short_exponent(buffer);
  }
  const int before = static_cast<int>(std::floor(std::log10(size))) + 1;
  std::snprintf(buffer, sizeof buffer, "%.*f", std::max(0, digits - before), value);
  std::string text = buffer;
  if (text.find('.') != std::string::npos) {
    text.erase(text.find_last_not_of('0') + 1);
    if (text.ends_with('.')) text.pop_back();
  }
  return with_commas(text);
}

std::string count_text(std::int64_t value) { return with_commas(std::to_string(value)); }

std::string percent_text(double share) {
  const double percent = 100 * share;
  if (!(percent > 0)) return "0 %";
  if (percent < 0.001) return "< 0.001 %";
  return printed(percent < 0.1 ? "%.3f %%" : percent < 10 ? "%.2f %%" : "%.0f %%", percent);
}

std::string duration_text(double seconds) {
  if (seconds < 60) return printed("%.1f s", std::max(0.0, seconds));
  const auto whole = static_cast<long long>(std::round(seconds));
  char buffer[64];
  if (whole < 3600)
    std::snprintf(buffer, sizeof buffer, "%lld min %02lld s", whole / 60, whole % 60);
  else
    std::snprintf(buffer, sizeof buffer, "%lld h %02lld min", whole / 3600, whole / 60 % 60);
  return buffer;
}

std::string memory_text(double bytes) {
  const double mib = bytes / (1 << 20);
  return mib < 1024 ? printed("%.0f MiB", mib) : printed("%.2f GiB", mib / 1024);
}

}  // namespace bezel::report
