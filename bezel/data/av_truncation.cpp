#include "bezel/data/av_truncation.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>

#include "bezel/error.h"

namespace bezel::data {
namespace {

constexpr int kMaxBoxes = 10000;
constexpr std::string_view kBoxes[] = {"ftyp", "moov", "mdat", "free", "skip", "wide", "uuid",
                                       "udta", "meta", "moof", "mfra", "sidx", "styp", "pnot"};

// End of the last sample by the index of an MP4.
std::uint64_t indexed_end(AVStream& stream) {
  std::uint64_t end = 0;
  for (int i = 0; i < av().avformat_index_get_entries_count(&stream); ++i) {
    const AVIndexEntry* entry = av().avformat_index_get_entry(&stream, i);
    if (entry != nullptr && entry->pos >= 0)
      end = std::max(end, static_cast<std::uint64_t>(entry->pos) + static_cast<std::uint64_t>(entry->size));
  }
  return end;
}

// An EBML number at `at`, moved behind it: with `keeps_length` all of its bits, as ids are read. Nothing at the end of
// the bytes; all ones, which say "unknown", too.
std::optional<std::uint64_t> ebml_number(std::string_view bytes, std::size_t& at, bool keeps_length) {
  if (at >= bytes.size()) return std::nullopt;
  const auto first = static_cast<unsigned char>(bytes[at]);
  std::size_t length = 1;
  while (length <= 8 && (first & (0x100u >> length)) == 0) ++length;
  if (length > 8 || bytes.size() - at < length) return std::nullopt;
  const std::uint64_t mask = keeps_length ? 0xFF : (0x100u >> length) - 1;
  std::uint64_t value = first & mask;
  for (std::size_t i = 1; i < length; ++i) value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
  at += length;
  if (!keeps_length && value == (std::uint64_t{1} << (7 * length)) - 1) return std::nullopt;
  return value;
}

// Where the segment of a Matroska file ends, where its begin says so.
std::optional<std::uint64_t> segment_end(std::string_view begin) {
  constexpr std::uint64_t kSegment = 0x18538067;
  std::size_t at = 0;
  while (at < begin.size()) {
    const auto id = ebml_number(begin, at, /*keeps_length=*/true);
    const auto size = id ? ebml_number(begin, at, /*keeps_length=*/false) : std::nullopt;
    if (!size || *size > UINT64_MAX / 2) return std::nullopt;
    if (*id == kSegment) return at + *size;
    if (*size > begin.size() - at) return std::nullopt;
    at += static_cast<std::size_t>(*size);
  }
  return std::nullopt;
}

std::uint64_t matroska_end(AvInput& input) {
  std::array<char, 512> begin{};
  AVIOContext* io = input.format().pb;
  if (av().avio_seek(io, 0, SEEK_SET) < 0) return 0;
  const int count = av().avio_read(io, reinterpret_cast<unsigned char*>(begin.data()), static_cast<int>(begin.size()));
  return segment_end({begin.data(), static_cast<std::size_t>(std::max(count, 0))}).value_or(0);
}

// Where the last box of an MP4 that begins inside the file ends.
std::uint64_t boxes_end(AvInput& input) {
  AVIOContext* io = input.format().pb;
  std::uint64_t begin = 0;
  for (int i = 0; i < kMaxBoxes && begin + 8 <= input.size_bytes(); ++i) {
    std::array<unsigned char, 16> header{};
    if (av().avio_seek(io, static_cast<std::int64_t>(begin), SEEK_SET) < 0) return 0;
    if (av().avio_read(io, header.data(), static_cast<int>(header.size())) < 8) return 0;
    const std::string_view type(reinterpret_cast<const char*>(header.data()) + 4, 4);
    if (std::ranges::find(kBoxes, type) == std::end(kBoxes)) return begin;  // what follows the file is no part of it
    std::uint64_t size = 0;
    for (std::size_t at = 0; at < 4; ++at) size = size << 8 | header[at];
    if (size == 0) return begin;  // to the end of the file
    if (size == 1)
      for (std::size_t at = 8; at < 16; ++at) size = size << 8 | header[at];
    if (size < 8 || size > UINT64_MAX / 2) return 0;
    begin += size;
  }
  return begin;
}

}  // namespace

void check_whole(AvInput& input, std::int64_t seen) {
  const std::string_view format = input.format().iformat->name;
  std::uint64_t end = 0;
  if (format.starts_with("mov")) end = std::max(indexed_end(input.stream()), boxes_end(input));
  if (format.starts_with("matroska")) end = matroska_end(input);
  if (end > input.size_bytes())
    throw Error(input.name(), ": truncated: by its headers it has ", end, " bytes or more, and ", input.size_bytes(),
                " are there");
  if (format == "avi" && seen < input.stream().nb_frames)
    throw Error(input.name(), ": truncated: by its header it has ", input.stream().nb_frames, " frames, and ", seen,
                " are there");
}

}  // namespace bezel::data
