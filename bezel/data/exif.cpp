#include <cstring>

#include "bezel/data/image_codecs.h"

namespace bezel::data {
namespace {

constexpr std::string_view kExifPrefix("Exif\0\0", 6);
constexpr std::uint16_t kOrientationTag = 274;
constexpr std::size_t kEntryBytes = 12;

std::string_view as_text(ImageBytes bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

/// Reads whole numbers of a TIFF block in its byte order.
struct TiffReader {
  ImageBytes bytes;
  bool big_endian;

  bool holds(std::size_t at, std::size_t count) const { return at <= bytes.size() && count <= bytes.size() - at; }

  /// The caller has checked that the bytes are there.
  std::uint32_t number(std::size_t at, std::size_t width) const {
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < width; ++i) {
      const std::size_t index = big_endian ? at + i : at + width - 1 - i;
      value = (value << 8) | static_cast<std::uint32_t>(bytes[index]);
    }
    return value;
  }
};

/// Width in bytes of the whole-number types that an orientation may have; 0 for all others.
std::size_t whole_number_width(std::uint32_t type) {
  constexpr std::uint32_t kShort = 3, kLong = 4, kSignedByte = 6, kSignedShort = 8, kSignedLong = 9;
  if (type == kShort || type == kSignedShort) return 2;
  if (type == kLong || type == kSignedLong) return 4;
  return type == kSignedByte ? 1 : 0;
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

std::optional<int> exif_orientation(ImageBytes exif) {
  const auto tiff = open_tiff(exif);
  if (!tiff) return std::nullopt;
  const std::size_t directory = tiff->number(4, 4);
  if (!tiff->holds(directory, 2)) return std::nullopt;
  const std::uint32_t num_entries = tiff->number(directory, 2);
  std::optional<int> found;
  for (std::uint32_t i = 0; i < num_entries; ++i) {
    const std::size_t entry = directory + 2 + i * kEntryBytes;
    if (!tiff->holds(entry, kEntryBytes)) break;
    if (tiff->number(entry, 2) != kOrientationTag || tiff->number(entry + 4, 4) != 1) continue;
    const std::size_t width = whole_number_width(tiff->number(entry + 2, 2));
    if (width != 0) found = static_cast<int>(tiff->number(entry + 8, width) & 0xffff);
  }
  return found;
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
