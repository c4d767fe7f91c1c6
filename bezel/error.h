#pragma once

#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>

namespace bezel {

/// What went wrong, as the command's exit code: `bezel` exits with the enumerator's value.
enum class ErrorKind {
  kConfig = 2,    ///< usage, flags or the training config
  kData = 3,      ///< a model, adapter, tokenizer, sample or media file
  kIo = 4,        ///< reading or writing failed
  kMemory = 5,    ///< not enough memory
  kDiverged = 6,  ///< loss or gradients stopped being numbers, or an adapter does not train
};

/// `text` as one line of valid UTF-8: control characters and bytes that are no UTF-8 become \xNN.
std::string printable(std::string_view text);

/// The one exception type of the library. The message names the file, the key or line, what was found,
/// what was expected and what to try; it is one printable() line.
class Error : public std::runtime_error {
 public:
  /// Joins `parts` with operator<<; the kind is kData.
  template <typename... Parts>
  explicit Error(const Parts&... parts) : Error(ErrorKind::kData, parts...) {}

  template <typename... Parts>
  explicit Error(ErrorKind kind, const Parts&... parts) : std::runtime_error(join(parts...)), kind_(kind) {}

  Error(const Error&) = default;

  ErrorKind kind() const { return kind_; }

 private:
  template <typename... Parts>
  static std::string join(const Parts&... parts) {
    std::ostringstream out;
    (out << ... << parts);
    return printable(out.str());
  }

  ErrorKind kind_;
};

}  // namespace bezel
