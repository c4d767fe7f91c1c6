#include <bit>

#include "bezel/data/image_codecs.h"

namespace bezel::data {
namespace {

constexpr std::string_view kExifPrefix("Exif\0\0", 6);
constexpr std::uint16_t kOrientationTag = 274;
constexpr std::size_t kEntryBytes = 12;
constexpr std::uint64_t kInlineBytes = 4;  // larger values are stored elsewhere in the block

std::string_view as_text(ImageBytes bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

/// Reads numbers of a TIFF block in its byte order. Callers check that the bytes are there.
struct TiffReader {
  ImageBytes bytes;
  bool big_endian;

  bool holds(std::size_t at, std::size_t count) const { return at <= bytes.size() && count <= bytes.size() - at; }

  std::uint64_t number(std::size_t at, std::size_t width) const {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < width; ++i) {
      const std::size_t index = big_endian ? at + i : at + width - 1 - i;
      value = (value << 8) | static_cast<std::uint64_t>(bytes[index]);
    }
    return value;
  }
  std::uint32_t number32(std::size_t at, std::size_t width) const {
    return static_cast<std::uint32_t>(number(at, width));
  }
};

enum class TagType : std::uint32_t {
  kByte = 1,
  kText,
  kShort,
  kLong,
  kRational,
  kSignedByte,
  kUndefined,
  kSignedShort,
  kSignedLong,
  kSignedRational,
  kFloat,
  kDouble,
  kDirectory,
  kLong8 = 16,
};

/// Bytes of one value of a type; 0 for types that Pillow does not know.
std::size_t value_bytes(TagType type) {
  switch (type) {
    case TagType::kByte:
    case TagType::kText:
    case TagType::kSignedByte:
    case TagType::kUndefined:
      return 1;
    case TagType::kShort:
    case TagType::kSignedShort:
      return 2;
    case TagType::kLong:
    case TagType::kSignedLong:
    case TagType::kFloat:
    case TagType::kDirectory:
      return 4;
    case TagType::kRational:
    case TagType::kSignedRational:
    case TagType::kDouble:
    case TagType::kLong8:
      return 8;
  }
  return 0;
}

/// The first value of an entry, as the number that Python compares with an orientation; 0 where it is not a number.
/// Negative numbers are no orientation, so their sign is not read.
double first_value(const TiffReader& tiff, std::size_t at, TagType type) {
  switch (type) {
    case TagType::kByte:
    case TagType::kText:
    case TagType::kUndefined:
      return 0;
    case TagType::kFloat:
      return std::bit_cast<float>(tiff.number32(at, 4));
    case TagType::kDouble:
      return std::bit_cast<double>(tiff.number(at, 8));
    case TagType::kRational:
      return static_cast<double>(tiff.number(at, 4)) / static_cast<double>(tiff.number(at + 4, 4));
    case TagType::kSignedRational:
      return static_cast<double>(static_cast<std::int32_t>(tiff.number32(at, 4))) /
             static_cast<double>(static_cast<std::int32_t>(tiff.number32(at + 4, 4)));
    default:
      return static_cast<double>(tiff.number(at, value_bytes(type)));
  }
}

int as_orientation(double value) {
  for (int orientation = 1; orientation <= 8; ++orientation)
    if (value == orientation) return orientation;
  return 0;
}

std::optional<TiffReader> open_tiff(ImageBytes exif) {
  for (int repeat = 0; repeat < 2 && as_text(exif).starts_with(kExifPrefix); ++repeat) {
    exif = exif.subspan(kExifPrefix.size());
  }
  if (exif.size() < 8) return std::nullopt;
  const std::string_view magic = as_text(exif).substr(0, 4);
  const std::string_view body = magic.substr(2);
  const bool known = body == std::string_view("*\0", 2) || body == std::string_view("\0*", 2);
  if (!known || (!magic.starts_with("II") && !magic.starts_with("MM"))) return std::nullopt;
  return TiffReader{exif, magic.starts_with("MM")};
}

}  // namespace

// As Pillow reads a damaged directory: an entry whose value is larger than the block is skipped, one whose value
// ends behind the block ends the directory, and the first entry of a tag counts.
std::optional<int> exif_orientation(ImageBytes exif) {
  const auto tiff = open_tiff(exif);
  if (!tiff) return std::nullopt;
  const std::size_t directory = tiff->number(4, 4);
  if (!tiff->holds(directory, 2)) return std::nullopt;
  const std::uint64_t num_entries = tiff->number(directory, 2);
  std::uint64_t outside_bytes = 0;
  for (std::uint64_t i = 0; i < num_entries; ++i) {
    const std::size_t entry = directory + 2 + i * kEntryBytes;
    if (!tiff->holds(entry, kEntryBytes)) break;
    const auto type = static_cast<TagType>(tiff->number32(entry + 2, 2));
    const std::uint64_t size_bytes = tiff->number(entry + 4, 4) * value_bytes(type);
    if (size_bytes == 0) continue;
    std::size_t at = entry + 8;
    if (size_bytes > kInlineBytes) {
      outside_bytes += size_bytes;
      if (outside_bytes > tiff->bytes.size()) continue;
      at = tiff->number(entry + 8, 4);
      if (!tiff->holds(at, size_bytes)) break;
    }
    if (tiff->number(entry, 2) == kOrientationTag) return as_orientation(first_value(*tiff, at, type));
  }
  return std::nullopt;
}

std::optional<int> xmp_orientation(ImageBytes xmp) {
  constexpr std::string_view kName = "tiff:Orientation";
  const std::string_view text = as_text(xmp);
  for (std::size_t at = text.find(kName); at != text.npos; at = text.find(kName, at + 1)) {
    std::string_view rest = text.substr(at + kName.size());
    if (rest.starts_with("=\"")) {
      rest.remove_prefix(2);
    } else if (rest.starts_with(">")) {
      rest.remove_prefix(1);
    } else {
      continue;
    }
    if (!rest.empty() && rest[0] >= '0' && rest[0] <= '9') return rest[0] - '0';
  }
  return std::nullopt;
}

int choose_orientation(std::optional<int> exif, std::optional<int> xmp) {
  const int value = exif ? *exif : xmp.value_or(1);
  return value >= 1 && value <= 8 ? value : 1;
}

}  // namespace bezel::data
