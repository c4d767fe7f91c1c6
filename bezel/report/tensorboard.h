#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace bezel::report {

/// CRC-32C (Castagnoli), as TFRecord files use it before they mask it.
std::uint32_t crc32c(std::string_view bytes);

/// One number of a step, such as {"train/loss", 1.5}.
using Scalar = std::pair<std::string_view, double>;

/// A TensorBoard event file of scalars: TFRecord frames around Event messages, both written by hand. Each call is on
/// disk, as far as the system keeps it, when it returns.
class EventWriter {
 public:
  /// Makes `folder` and a new file in it. What earlier files of the folder hold from `first_step` on is void from here
  /// on. Throws Error (kIo).
  EventWriter(const std::string& folder, std::int64_t first_step);
  ~EventWriter();
  EventWriter(const EventWriter&) = delete;
  EventWriter& operator=(const EventWriter&) = delete;

  /// Throws Error (kIo) when it cannot be written.
  void add(std::int64_t step, std::span<const Scalar> scalars);

  const std::string& path() const { return path_; }

 private:
  explicit EventWriter(std::string path);
  void write_record(std::string_view event);

  std::string path_;
  int fd_ = -1;
  std::int64_t whole_bytes_ = 0;  // of complete records
};

}  // namespace bezel::report
