#include <algorithm>
#include <string>

#include <zlib.h>

#include "bezel/data/image_codecs.h"
#include "bezel/error.h"

namespace bezel::data {
namespace {

constexpr std::size_t kSignatureBytes = 8;
constexpr std::size_t kFrameBytes = 12;               // length, type, checksum
constexpr std::size_t kMaxTextBytes = 1u << 20;       // of one inflated text chunk
constexpr std::uint32_t kMaxChunkBytes = 0x7fffffff;  // set by the format

struct Chunk {
  std::string_view type;
  ImageBytes body;
};

std::string_view as_text(ImageBytes bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

ImageBytes as_bytes(std::string_view text) { return {reinterpret_cast<const std::byte*>(text.data()), text.size()}; }

std::uint32_t read_u32(ImageBytes bytes, std::size_t at) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < 4; ++i) value = (value << 8) | static_cast<std::uint32_t>(bytes[at + i]);
  return value;
}

/// Walks the chunks of a PNG file. Up to the last image data, a chunk that is cut short or fails its checksum throws;
/// behind it, it ends the walk, as in Pillow.
class ChunkWalker {
 public:
  ChunkWalker(ImageBytes bytes, std::string_view source) : bytes_(bytes), source_(source) {}

  std::optional<Chunk> next() {
    if (at_ == bytes_.size() && seen_data_) return std::nullopt;
    const std::size_t left = bytes_.size() - at_;
    const std::uint32_t body_bytes = left < kFrameBytes ? 0 : read_u32(bytes_, at_);
    const std::string_view type = left < kFrameBytes ? "" : as_text(bytes_.subspan(at_ + 4, 4));
    if (left < kFrameBytes || body_bytes > kMaxChunkBytes || body_bytes > left - kFrameBytes) {
      if (seen_data_ && type != "IDAT") return std::nullopt;
      throw Error(source_, ": PNG is truncated: chunk at byte ", at_, " does not fit into the ", bytes_.size(),
                  " bytes of the file");
    }
    const Chunk chunk{type, bytes_.subspan(at_ + 8, body_bytes)};
    const uLong crc = crc32(0, reinterpret_cast<const Bytef*>(bytes_.data() + at_ + 4), body_bytes + 4);
    if (crc != read_u32(bytes_, at_ + 8 + body_bytes)) {
      if (seen_data_ && type != "IDAT") return std::nullopt;
      throw Error(source_, ": PNG is damaged: wrong checksum of the chunk at byte ", at_);
    }
    seen_data_ = seen_data_ || type == "IDAT";
    at_ += kFrameBytes + body_bytes;
    return chunk;
  }

 private:
  ImageBytes bytes_;
  std::string_view source_;
  std::size_t at_ = kSignatureBytes;
  bool seen_data_ = false;
};

/// Cuts `text` behind its first NUL and returns what was before it; everything when it has no NUL.
std::string_view take_field(std::string_view& text) {
  const std::size_t end = text.find('\0');
  const std::string_view field = text.substr(0, end);
  text = end == text.npos ? std::string_view() : text.substr(end + 1);
  return field;
}

/// Inflates a zlib stream; empty when it is damaged or larger than a text chunk may be.
std::string inflate_text(std::string_view packed) {
  std::string out(std::min(kMaxTextBytes, 64 + 1100 * packed.size()), '\0');
  uLongf out_bytes = out.size();
  const auto* in = reinterpret_cast<const Bytef*>(packed.data());
  if (uncompress(reinterpret_cast<Bytef*>(out.data()), &out_bytes, in, packed.size()) != Z_OK) return {};
  out.resize(out_bytes);
  return out;
}

/// Value of a tEXt, zTXt or iTXt chunk; `key` is set to its keyword.
std::string text_value(const Chunk& chunk, std::string_view& key) {
  std::string_view rest = as_text(chunk.body);
  key = take_field(rest);
  bool packed = chunk.type == "zTXt";
  if (chunk.type == "iTXt") {
    if (rest.size() < 2) return {};
    packed = rest[0] != 0;
    rest.remove_prefix(2);
    take_field(rest);  // language
    take_field(rest);  // translated keyword
  } else if (packed) {
    if (rest.empty() || rest[0] != 0) return {};
    rest.remove_prefix(1);
  }
  return packed ? inflate_text(rest) : std::string(rest);
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/// Bytes of ImageMagick's "Raw profile type exif": a name line, a length line, then hexadecimal digits.
std::string unpack_raw_profile(std::string_view text) {
  for (int line = 0; line < 3; ++line) {
    const std::size_t end = text.find('\n');
    if (end == text.npos) return {};
    text.remove_prefix(end + 1);
  }
  std::string out;
  int high = -1;
  for (const char c : text) {
    if (c == '\n' || c == ' ' || c == '\r') continue;
    const int digit = hex_digit(c);
    if (digit < 0) return {};
    if (high < 0) {
      high = digit;
    } else {
      out.push_back(static_cast<char>(high * 16 + digit));
      high = -1;
    }
  }
  return out;
}

/// Where orientation may be written in a PNG file.
struct PngMetadata {
  std::string exif, raw_profile, xmp;

  void read(const Chunk& chunk) {
    if (chunk.type == "eXIf") exif = as_text(chunk.body);
    if (chunk.type != "tEXt" && chunk.type != "zTXt" && chunk.type != "iTXt") return;
    std::string_view key;
    std::string value = text_value(chunk, key);
    if (key == "exif" && chunk.type == "tEXt") {
      exif = std::move(value);
    } else if (key == "Raw profile type exif") {
      raw_profile = unpack_raw_profile(value);
    } else if (key == "XML:com.adobe.xmp") {
      xmp = std::move(value);
    }
  }

  int orientation() const {
    const auto from_exif = exif_orientation(as_bytes(exif.empty() ? raw_profile : exif));
    return choose_orientation(from_exif, xmp_orientation(as_bytes(xmp)));
  }
};

}  // namespace

ImageHeader read_png_header(ImageBytes bytes, std::string_view source) {
  constexpr std::size_t kHeaderBytes = 13;
  ChunkWalker walker(bytes, source);
  const auto first = walker.next();
  if (!first || first->type != "IHDR" || first->body.size() != kHeaderBytes) {
    throw Error(source, ": bad PNG: it does not start with an IHDR chunk of 13 bytes");
  }
  ImageHeader header{{read_u32(first->body, 4), read_u32(first->body, 0)}, 1};
  PngMetadata metadata;
  bool has_data = false;
  for (auto chunk = walker.next(); chunk && chunk->type != "IEND"; chunk = walker.next()) {
    has_data = has_data || chunk->type == "IDAT";
    metadata.read(*chunk);
  }
  if (!has_data) throw Error(source, ": bad PNG: no image data");
  header.orientation = metadata.orientation();
  return header;
}

}  // namespace bezel::data
