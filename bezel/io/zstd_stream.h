#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace bezel::io {

/// Fills `to` with the next compressed bytes and returns how many; 0 at the end.
using ByteSource = std::function<std::size_t(std::span<std::byte> to)>;
/// Takes the next decoded bytes; pieces are multiples of 16 bytes but for the last.
using ByteTarget = std::function<void(std::span<const std::byte> piece)>;

/// Decodes one zstd frame (RFC 8878) of exactly `expected_bytes` decoded bytes, in pieces of at most 1 MiB. Throws
/// Error naming `where` when the frame is damaged, ends early, has another size, or bytes follow it.
void decode_zstd(const ByteSource& source, std::uint64_t expected_bytes, const std::string& where,
                 const ByteTarget& target);

/// Decodes one zstd frame of at most `max_bytes` decoded bytes. Throws as decode_zstd does.
std::string decode_zstd_text(std::string_view frame, std::size_t max_bytes, const std::string& where);

}  // namespace bezel::io
