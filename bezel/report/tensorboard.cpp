#include "bezel/report/tensorboard.h"

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>

#include <fcntl.h>
#include <unistd.h>

#include "bezel/error.h"
#include "bezel/io/atomic_write.h"

namespace bezel::report {
namespace {

constexpr auto kCrcTable = [] {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78u : 0u);
    table[i] = crc;
  }
  return table;
}();

double wall_time_s() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

template <typename T>
std::string little_endian(T value) {
  std::string out;
  for (std::size_t i = 0; i < sizeof value; ++i) out += static_cast<char>(value >> 8 * i & 0xFF);
  return out;
}

// TFRecord turns the sum about, since sums of bytes that hold sums themselves are weak.
std::string masked_crc(std::string_view bytes) {
  const std::uint32_t crc = crc32c(bytes);
  return little_endian((crc >> 15 | crc << 17) + 0xA282EAD8u);
}

// A message in protobuf's wire format, field by field.
class Message {
 public:
  Message& whole(int field, std::uint64_t value) {
    key(field, 0);
    varint(value);
    return *this;
  }
  Message& real(int field, double value) {
    std::uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    key(field, 1);
    bytes_ += little_endian(bits);
    return *this;
  }
  Message& single(int field, float value) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    key(field, 5);
    bytes_ += little_endian(bits);
    return *this;
  }
  Message& text(int field, std::string_view value) {
    key(field, 2);
    varint(value.size());
    bytes_ += value;
    return *this;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  void key(int field, std::uint64_t wire_type) { varint(static_cast<std::uint64_t>(field) << 3 | wire_type); }
  void varint(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>(value | 0x80);
    bytes_ += static_cast<char>(value);
  }

  std::string bytes_;
};

// Field numbers of tensorflow/core/util/event.proto.
Message event_at(std::int64_t step) {
  return Message().real(1, wall_time_s()).whole(2, static_cast<std::uint64_t>(step));
}

std::string new_file_in(const std::string& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw Error(ErrorKind::kIo, folder, ": cannot be made a folder: ", error.message());
  // TensorBoard reads the files of a folder in the order of their names: the time comes first.
  static std::atomic<int> count{0};
  char host[65] = {};
  if (::gethostname(host, sizeof host - 1) != 0 || host[0] == '\0') std::strcpy(host, "localhost");
  const auto seconds = static_cast<long long>(wall_time_s());
  return folder + "/events.out.tfevents." + std::to_string(seconds) + "." + host + "." + std::to_string(::getpid()) +
         "." + std::to_string(count++);
}

}  // namespace

std::uint32_t crc32c(std::string_view bytes) {
  std::uint32_t crc = ~0u;
  for (const char c : bytes) crc = crc >> 8 ^ kCrcTable[(crc ^ static_cast<unsigned char>(c)) & 0xFF];
  return ~crc;
}

EventWriter::EventWriter(std::string path) : path_(std::move(path)) {
  fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0644);
  if (fd_ < 0) throw Error(ErrorKind::kIo, path_, ": cannot be written: ", std::strerror(errno));
}

EventWriter::EventWriter(const std::string& folder, std::int64_t first_step) : EventWriter(new_file_in(folder)) {
  constexpr std::uint64_t kStart = 1;  // of SessionLog: later steps of earlier files are void
  write_record(Message().real(1, wall_time_s()).text(3, "brain.Event:2").bytes());
  write_record(event_at(first_step).text(7, Message().whole(1, kStart).bytes()).bytes());
}

EventWriter::~EventWriter() { ::close(fd_); }

void EventWriter::add(std::int64_t step, std::span<const Scalar> scalars) {
  Message summary;
  for (const auto& [tag, value] : scalars)
    summary.text(1, Message().text(1, tag).single(2, static_cast<float>(value)).bytes());
  write_record(event_at(step).text(5, summary.bytes()).bytes());
}

void EventWriter::write_record(std::string_view event) {
  const std::string length = little_endian(static_cast<std::uint64_t>(event.size()));
  std::string record = length + masked_crc(length);
  record.append(event).append(masked_crc(event));
  // Half a record, of a disk that was full, would hide all that follow it from readers.
  if (::ftruncate(fd_, whole_bytes_) != 0) throw Error(ErrorKind::kIo, path_, ": ", std::strerror(errno));
  io::FileSink(fd_, path_).write(record);
  whole_bytes_ += static_cast<std::int64_t>(record.size());
}

}  // namespace bezel::report
