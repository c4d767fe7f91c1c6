#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "bezel/io/atomic_write.h"
#include "bezel/io/gguf_model.h"

namespace bezel::io {

/// A value for the metadata of a GGUF file. Whole numbers take the types that llama.cpp's converter gives them: most
/// are uint32, and int32 in lists.
using NewGgufValue = std::variant<std::string, std::uint32_t, std::int32_t, float, bool, std::vector<std::string>,
                                  std::vector<std::int32_t>, std::vector<float>, std::vector<bool>>;

/// Metadata of a GGUF file to write, in order.
class NewGgufKeys {
 public:
  /// Sets the value of `key`, in place of one that is there.
  void set(std::string_view key, const NewGgufValue& value);
  /// Takes a value over from another file, byte for byte.
  void copy(const GgufValue& value);
  bool has(std::string_view key) const;

 private:
  friend class GgufHead;

  std::string& bytes_of(std::string_view key);

  std::vector<std::pair<std::string, std::string>> keys_;  // name; type and value as the file has them
};

/// Takes the bytes of one tensor.
class GgufSink {
 public:
  GgufSink(FileSink& file, std::size_t size_bytes) : file_(file), left_bytes_(size_bytes) {}

  /// Appends bytes; throws std::logic_error when there are more than the tensor has.
  void put(const void* data, std::size_t size_bytes);
  std::size_t left_bytes() const { return left_bytes_; }

 private:
  FileSink& file_;
  std::size_t left_bytes_;
};

/// A tensor to write.
struct NewGgufTensor {
  std::string name;
  GgufType type = GgufType::kF32;
  std::vector<std::int64_t> shape;       ///< [rows, columns] as elsewhere; the file lists it the other way round
  std::function<void(GgufSink&)> write;  ///< puts all of its bytes in order; called once, when its turn has come

  std::size_t size_bytes() const;
};

/// A tensor of another file as it is. Evicts its pages once it is written.
NewGgufTensor copied_tensor(const GgufModel::Entry& entry);

/// Writes a GGUF file (version 3, little-endian), wholly or not at all, one tensor after the other. Throws Error when a
/// name comes twice, Error (kIo) when writing fails, and whatever `write` throws. Reference: ggml/docs/gguf.md.
void write_gguf(const std::string& path, const NewGgufKeys& keys, const std::vector<NewGgufTensor>& tensors);

}  // namespace bezel::io
