#include "bezel/io/zstd_encoder.h"

#include <stdexcept>
#include <utility>

#include <zstd.h>

#include "bezel/error.h"

namespace bezel::io {
namespace {

constexpr int kLevel = 1;  // what Orbax takes

void check(std::size_t code) {
  if (ZSTD_isError(code) != 0) throw std::logic_error(std::string("zstd: ") + ZSTD_getErrorName(code));
}

}  // namespace

ZstdEncoder::ZstdEncoder(std::uint64_t total_bytes, ByteTarget target)
    : target_(std::move(target)), stream_(ZSTD_createCCtx(), ZSTD_freeCCtx), out_(ZSTD_CStreamOutSize()) {
  if (!stream_) throw Error(ErrorKind::kMemory, "no memory for a zstd encoder");
  check(ZSTD_CCtx_setParameter(stream_.get(), ZSTD_c_compressionLevel, kLevel));
  check(ZSTD_CCtx_setPledgedSrcSize(stream_.get(), total_bytes));
}

ZstdEncoder::~ZstdEncoder() = default;

void ZstdEncoder::put(std::span<const std::byte> piece) { encode(piece, false); }

void ZstdEncoder::finish() { encode({}, true); }

void ZstdEncoder::encode(std::span<const std::byte> piece, bool end) {
  ZSTD_inBuffer in{piece.data(), piece.size(), 0};
  for (;;) {
    ZSTD_outBuffer out{out_.data(), out_.size(), 0};
    const std::size_t left = ZSTD_compressStream2(stream_.get(), &out, &in, end ? ZSTD_e_end : ZSTD_e_continue);
    check(left);
    if (out.pos > 0) target_(std::span<const std::byte>(out_).first(out.pos));
    if (end ? left == 0 : in.pos == in.size) return;
  }
}

}  // namespace bezel::io
