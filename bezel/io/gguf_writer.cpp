#include "bezel/io/gguf_writer.h"

#include <set>

#include "bezel/error.h"
#include "bezel/io/atomic_write.h"

namespace bezel::io {
namespace {

constexpr std::size_t kAlignment = 32;  // general.alignment where a file does not say it
constexpr std::uint32_t kVersion = 3, kF32 = 0;

std::size_t aligned(std::size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

std::size_t size_bytes(const NewGgufTensor& tensor) {
  std::size_t bytes = sizeof(float);
  for (const std::int64_t dim : tensor.shape) bytes *= static_cast<std::size_t>(dim);
  return bytes;
}

// Bytes of the head of the file, as they come.
class Head {
 public:
  template <typename T>
  void put(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void put(const std::string& text) {
    put<std::uint64_t>(text.size());
    bytes_ += text;
  }

  void put_key(const std::string& name, const std::variant<std::string, std::uint32_t, float>& value) {
    constexpr std::uint32_t kTypes[] = {8, 4, 6};  // string, uint32, float32
    put(name);
    put(kTypes[value.index()]);
    std::visit([this](const auto& one) { put(one); }, value);
  }

  void put_tensor(const NewGgufTensor& tensor, std::uint64_t offset_bytes) {
    put(tensor.name);
    put(static_cast<std::uint32_t>(tensor.shape.size()));
    for (auto dim = tensor.shape.rbegin(); dim != tensor.shape.rend(); ++dim) put(static_cast<std::uint64_t>(*dim));
    put(kF32);
    put(offset_bytes);
  }

  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_ = "GGUF";
};

}  // namespace

void write_gguf(const std::string& path, const NewGgufKeys& keys, std::span<const NewGgufTensor> tensors) {
  Head head;
  head.put(kVersion);
  head.put<std::uint64_t>(tensors.size());
  head.put<std::uint64_t>(keys.size());
  for (const auto& [name, value] : keys) head.put_key(name, value);
  std::set<std::string> names;
  std::uint64_t offset_bytes = 0;
  for (const NewGgufTensor& tensor : tensors) {
    if (!names.insert(tensor.name).second) throw Error(path, ": tensor '", tensor.name, "' would be there twice");
    head.put_tensor(tensor, offset_bytes);
    offset_bytes += aligned(size_bytes(tensor));
  }
  write_file_atomically(path, [&](FileSink& file) {
    const auto pad = [&](std::size_t bytes) { file.write(std::string(aligned(bytes) - bytes, '\0')); };
    file.write(head.bytes());
    pad(head.bytes().size());
    for (const NewGgufTensor& tensor : tensors) {
      file.write(tensor.data, size_bytes(tensor));
      pad(size_bytes(tensor));
    }
  });
}

}  // namespace bezel::io
