#include "bezel/io/gguf_writer.h"

#include <algorithm>
#include <set>
#include <stdexcept>

#include "bezel/error.h"

namespace bezel::io {
namespace {

constexpr std::size_t kAlignment = 32;  // general.alignment where a file does not say it
constexpr std::uint32_t kVersion = 3;

std::size_t aligned(std::size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

template <typename T>
void append(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void append_text(std::string& bytes, std::string_view text) {
  append<std::uint64_t>(bytes, text.size());
  bytes += text;
}

void append_kind(std::string& bytes, GgufKind kind) { append(bytes, static_cast<std::uint32_t>(kind)); }

/// Appends the type of a value and the value.
struct Encoder {
  std::string& bytes;

  void operator()(const std::string& text) const {
    append_kind(bytes, GgufKind::kString);
    append_text(bytes, text);
  }
  void operator()(std::uint32_t number) const {
    append_kind(bytes, GgufKind::kU32);
    append(bytes, number);
  }
  void operator()(std::int32_t number) const {
    append_kind(bytes, GgufKind::kI32);
    append(bytes, number);
  }
  void operator()(float number) const {
    append_kind(bytes, GgufKind::kF32);
    append(bytes, number);
  }
  void operator()(bool yes) const {
    append_kind(bytes, GgufKind::kBool);
    append(bytes, static_cast<std::uint8_t>(yes));
  }
  void operator()(const std::vector<std::string>& texts) const {
    begin_list(GgufKind::kString, texts.size());
    for (const std::string& text : texts) append_text(bytes, text);
  }
  void operator()(const std::vector<std::int32_t>& numbers) const {
    begin_list(GgufKind::kI32, numbers.size());
    for (const std::int32_t number : numbers) append(bytes, number);
  }
  void operator()(const std::vector<float>& numbers) const {
    begin_list(GgufKind::kF32, numbers.size());
    for (const float number : numbers) append(bytes, number);
  }
  void operator()(const std::vector<bool>& flags) const {
    begin_list(GgufKind::kBool, flags.size());
    for (const bool flag : flags) append(bytes, static_cast<std::uint8_t>(flag));
  }

  void begin_list(GgufKind kind, std::size_t count) const {
    append_kind(bytes, GgufKind::kArray);
    append_kind(bytes, kind);
    append<std::uint64_t>(bytes, count);
  }
};

}  // namespace

void NewGgufKeys::set(std::string_view key, const NewGgufValue& value) {
  std::string& bytes = bytes_of(key);
  bytes.clear();
  std::visit(Encoder{bytes}, value);
}

void NewGgufKeys::copy(const GgufValue& value) {
  std::string& bytes = bytes_of(value.key());
  bytes.clear();
  if (value.is_array())
    Encoder{bytes}.begin_list(value.kind(), value.size());
  else
    append_kind(bytes, value.kind());
  bytes += value.bytes();
}

bool NewGgufKeys::has(std::string_view key) const {
  return std::ranges::find(keys_, key, &std::pair<std::string, std::string>::first) != keys_.end();
}

std::string& NewGgufKeys::bytes_of(std::string_view key) {
  const auto found = std::ranges::find(keys_, key, &std::pair<std::string, std::string>::first);
  return found != keys_.end() ? found->second : keys_.emplace_back(key, "").second;
}

void GgufSink::put(const void* data, std::size_t size_bytes) {
  if (size_bytes > left_bytes_) throw std::logic_error("more bytes than a GGUF tensor has");
  file_.write(data, size_bytes);
  left_bytes_ -= size_bytes;
}

std::size_t NewGgufTensor::size_bytes() const {
  const GgufTypeInfo& info = gguf_type_info(type);
  std::int64_t elements = 1;
  for (const std::int64_t dim : shape) elements *= dim;
  return static_cast<std::size_t>(elements / info.block_elements * info.block_bytes);
}

NewGgufTensor copied_tensor(const GgufModel::Entry& entry) {
  const GgufTensor& info = *entry.info;
  return {info.name, info.type, info.shape, [file = entry.file, &info](GgufSink& sink) {
            sink.put(file->data(info), info.size_bytes);
            file->evict(info);
          }};
}

/// The bytes in front of the tensors.
class GgufHead {
 public:
  GgufHead(const NewGgufKeys& keys, const std::vector<NewGgufTensor>& tensors) {
    append(bytes_, kVersion);
    append<std::uint64_t>(bytes_, tensors.size());
    append<std::uint64_t>(bytes_, keys.keys_.size());
    for (const auto& [name, value] : keys.keys_) {
      append_text(bytes_, name);
      bytes_ += value;
    }
    std::uint64_t offset_bytes = 0;
    for (const NewGgufTensor& tensor : tensors) {
      list(tensor, offset_bytes);
      offset_bytes += aligned(tensor.size_bytes());
    }
  }

  const std::string& bytes() const { return bytes_; }

 private:
  void list(const NewGgufTensor& tensor, std::uint64_t offset_bytes) {
    append_text(bytes_, tensor.name);
    append(bytes_, static_cast<std::uint32_t>(tensor.shape.size()));
    for (auto dim = tensor.shape.rbegin(); dim != tensor.shape.rend(); ++dim)
      append(bytes_, static_cast<std::uint64_t>(*dim));
    append(bytes_, static_cast<std::uint32_t>(tensor.type));
    append(bytes_, offset_bytes);
  }

  std::string bytes_ = "GGUF";
};

void write_gguf(const std::string& path, const NewGgufKeys& keys, const std::vector<NewGgufTensor>& tensors) {
  std::set<std::string_view> names;
  for (const NewGgufTensor& tensor : tensors)
    if (!names.insert(tensor.name).second) throw Error(path, ": tensor '", tensor.name, "' would be there twice");
  const GgufHead head(keys, tensors);
  write_file_atomically(path, [&](FileSink& file) {
    const auto pad = [&](std::size_t bytes) { file.write(std::string(aligned(bytes) - bytes, '\0')); };
    file.write(head.bytes());
    pad(head.bytes().size());
    for (const NewGgufTensor& tensor : tensors) {
      GgufSink sink(file, tensor.size_bytes());
      tensor.write(sink);
      if (sink.left_bytes() > 0) throw std::logic_error("GGUF tensor '" + tensor.name + "' was not written to its end");
      pad(tensor.size_bytes());
    }
  });
}

}  // namespace bezel::io
