#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "bezel/io/zstd_stream.h"

struct ZSTD_CCtx_s;

namespace bezel::io {

/// Encodes one zstd frame (RFC 8878) of `total_bytes` bytes, piece by piece; `target` takes what is ready. Throws Error
/// (kMemory) when there is no memory for an encoder, std::logic_error when more or fewer bytes were put.
class ZstdEncoder {
 public:
  ZstdEncoder(std::uint64_t total_bytes, ByteTarget target);
  ~ZstdEncoder();

  void put(std::span<const std::byte> piece);
  /// Ends the frame.
  void finish();

 private:
  void encode(std::span<const std::byte> piece, bool end);

  ByteTarget target_;
  std::unique_ptr<ZSTD_CCtx_s, std::size_t (*)(ZSTD_CCtx_s*)> stream_;
  std::vector<std::byte> out_;
};

}  // namespace bezel::io
