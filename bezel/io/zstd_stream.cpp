#include "bezel/io/zstd_stream.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include <zstd.h>

#include "bezel/error.h"

namespace bezel::io {
namespace {

constexpr std::size_t kPieceBytes = std::size_t{1} << 20;

struct FreeStream {
  void operator()(ZSTD_DStream* stream) const { ZSTD_freeDStream(stream); }
};

/// One frame, decoded piece by piece. Every piece but the last is full.
class Frame {
 public:
  Frame(const ByteSource& source, const std::string& where)
      : source_(source), where_(where), stream_(ZSTD_createDStream()), in_(kPieceBytes), out_(kPieceBytes) {
    if (stream_ == nullptr) throw Error(ErrorKind::kMemory, where, ": no memory for a zstd decoder");
  }

  /// The next bytes; empty at the end of the frame.
  std::span<const std::byte> next() {
    ZSTD_outBuffer out{out_.data(), out_.size(), 0};
    while (out.pos < out.size && !ended_) {
      const bool has_input = refill();
      const std::size_t before_in = input_.pos, before_out = out.pos;
      const std::size_t hint = ZSTD_decompressStream(stream_.get(), &out, &input_);
      if (ZSTD_isError(hint) != 0)
        throw Error(where_, ": zstd data are damaged (", ZSTD_getErrorName(hint), "); fetch the checkpoint again");
      ended_ = hint == 0;
      if (!ended_ && !has_input && input_.pos == before_in && out.pos == before_out)
        throw Error(where_, ": zstd data end early; fetch the checkpoint again");
    }
    return {out_.data(), out.pos};
  }

  /// Throws when bytes follow the frame.
  void check_end() {
    if (refill()) throw Error(where_, ": bytes follow the zstd frame, expected one frame and nothing else");
  }

 private:
  bool refill() {
    if (input_.pos < input_.size) return true;
    input_ = {in_.data(), source_(in_), 0};
    return input_.size > 0;
  }

  const ByteSource& source_;
  const std::string& where_;
  std::unique_ptr<ZSTD_DStream, FreeStream> stream_;
  std::vector<std::byte> in_, out_;
  ZSTD_inBuffer input_{nullptr, 0, 0};
  bool ended_ = false;
};

}  // namespace

void decode_zstd(const ByteSource& source, std::uint64_t expected_bytes, const std::string& where,
                 const ByteTarget& target) {
  Frame frame(source, where);
  std::uint64_t left_bytes = expected_bytes;
  for (auto piece = frame.next(); !piece.empty(); piece = frame.next()) {
    if (piece.size() > left_bytes)
      throw Error(where, ": zstd data hold more than the expected ", expected_bytes, " bytes");
    left_bytes -= piece.size();
    target(piece);
  }
  if (left_bytes > 0)
    throw Error(where, ": zstd data hold ", expected_bytes - left_bytes, " bytes, expected ", expected_bytes);
  frame.check_end();
}

std::string decode_zstd_text(std::string_view text, std::size_t max_bytes, const std::string& where) {
  const ByteSource source = [&text](std::span<std::byte> to) {
    const std::size_t count = std::min(to.size(), text.size());
    std::memcpy(to.data(), text.data(), count);
    text.remove_prefix(count);
    return count;
  };
  Frame frame(source, where);
  std::string decoded;
  for (auto piece = frame.next(); !piece.empty(); piece = frame.next()) {
    if (piece.size() > max_bytes - decoded.size())
      throw Error(where, ": zstd data hold more than ", max_bytes, " bytes, the limit for one node");
    decoded.append(reinterpret_cast<const char*>(piece.data()), piece.size());
  }
  frame.check_end();
  return decoded;
}

}  // namespace bezel::io
