#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "bezel/io/atomic_write.h"
#include "bezel/io/mapped_file.h"

namespace bezel::io {

/// Element types that are read and written; others (8-bit floats, complex) are refused by name.
enum class DType { kBool, kU8, kI8, kU16, kI16, kF16, kBF16, kU32, kI32, kF32, kU64, kI64, kF64 };

/// The type's name in a safetensors header, such as "BF16".
std::string_view dtype_name(DType dtype);
/// Bytes of one element.
std::size_t dtype_bytes(DType dtype);

struct TensorInfo {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<std::int64_t> shape;  ///< empty for a 0-d tensor
  std::size_t begin_bytes = 0;      ///< offset of the first byte in the file's data section
  std::size_t end_bytes = 0;        ///< offset after the last byte
};

/// A safetensors file mapped into memory. Opening reads and checks the header only.
class SafetensorsFile {
 public:
  /// Throws Error when the file is no safetensors file in every detail: header size, offsets without hole, overlap or
  /// rest, shapes that fit them, no name twice. Throws Error (kIo) when it cannot be read.
  static std::shared_ptr<const SafetensorsFile> open(const std::string& path);

  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  /// All tensors, in the order of their data.
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  /// The tensor called `name`, or null.
  const TensorInfo* find(std::string_view name) const;
  /// First byte of a tensor of this file, perhaps unaligned. Read-only memory, valid while this file lives.
  const std::byte* data(const TensorInfo& tensor) const;
  /// Evicts the pages of a tensor; they are read from the file again when they are used.
  void evict(const TensorInfo& tensor) const;
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::shared_ptr<const MappedFile>& map() const { return map_; }
  const std::string& path() const { return map_->path(); }
  /// Offset of the data section in the file.
  std::size_t data_begin() const { return data_begin_; }

 private:
  explicit SafetensorsFile(std::shared_ptr<const MappedFile> map);

  std::string_view header() const;
  void read_header();
  void check_layout();

  std::shared_ptr<const MappedFile> map_;
  std::size_t data_begin_ = 0;
  std::size_t data_bytes_ = 0;
  std::vector<TensorInfo> tensors_;
  std::unordered_map<std::string_view, const TensorInfo*> by_name_;
  std::map<std::string, std::string> metadata_;
};

/// A tensor to write; borrows the bytes.
struct TensorBytes {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<std::int64_t> shape;
  const void* data = nullptr;  ///< contiguous, row-major
  std::size_t size_bytes = 0;
};

/// A tensor to come.
struct TensorSpec {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<std::int64_t> shape;

  /// Throws Error when the size does not fit 63 bits.
  std::size_t size_bytes() const;
};

/// The file being written by stream_safetensors.
class TensorSink {
 public:
  /// Writes the tensor called `name` at its place. Throws std::logic_error when no tensor of this name and size is due.
  void put(const std::string& name, const void* data, std::size_t size_bytes);

  /// Writes bytes of one tensor from byte `offset_bytes` of it on.
  using PutPiece = std::function<void(std::size_t offset_bytes, const void* data, std::size_t size_bytes)>;
  /// Begins the tensor called `name`, which is 0 where no piece is put, and counts as put. Throws std::logic_error when
  /// no tensor of this name is due; the result does so for bytes beyond the tensor. It must not outlive the sink.
  PutPiece put_pieces(const std::string& name);

 private:
  friend void stream_safetensors(const std::string&, std::span<const TensorSpec>,
                                 const std::map<std::string, std::string>&, const std::function<void(TensorSink&)>&);
  struct Place {
    std::size_t begin_bytes = 0;  ///< in the file
    std::size_t size_bytes = 0;
  };

  explicit TensorSink(FileSink& file) : file_(file) {}

  FileSink& file_;
  std::unordered_map<std::string, Place> due_;
};

/// Writes a safetensors file whose tensors are made one after the other: `fill` puts each of `specs` once, in any
/// order; no tensor is kept. Otherwise as write_safetensors. Throws std::logic_error when one was not put.
void stream_safetensors(const std::string& path, std::span<const TensorSpec> specs,
                        const std::map<std::string, std::string>& metadata,
                        const std::function<void(TensorSink&)>& fill);

/// Writes a safetensors file, wholly or not at all, every tensor aligned to its element size. Data goes from wide
/// element types to narrow ones, within a type in the given order. Throws Error when a name comes twice or a size does
/// not fit its shape, Error (kIo) when writing fails.
void write_safetensors(const std::string& path, std::span<const TensorBytes> tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace bezel::io
