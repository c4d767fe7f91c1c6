// The body of a B+tree leaf and of a block of OCDBT, whose checksum is made right, so that what lies behind it is
// reached.
#include "bezel/io/ocdbt.h"

#include <cstring>
#include <filesystem>
#include <fstream>

#include <unistd.h>

#include "bezel/io/ocdbt_block.h"
#include "fuzz/target.h"

namespace {

using namespace bezel;

template <typename T>
std::string raw(T value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

/// The input behind a right magic and length, and before a right checksum.
std::string block_of(const char* magic, std::string_view inside) {
  const std::string block = std::string(magic, 4) + raw<std::uint64_t>(inside.size() + 16) + std::string(inside);
  return block + raw(io::crc32c(block));
}

const std::string& folder() {
  static const std::string path = [] {
    std::string pattern = (std::filesystem::temp_directory_path() / "bezel-fuzz-XXXXXX").string();
    fuzz::require(::mkdtemp(pattern.data()) != nullptr);
    return pattern;
  }();
  return path;
}

void write_file(const std::string& name, const std::string& bytes) {
  std::ofstream file(folder() + "/" + name, std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  fuzz::require(static_cast<bool>(file.flush()));
}

}  // namespace

/// The first byte is the length of the manifest; what follows it is the root node, in file "n".
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text = fuzz::as_text(data, size).substr(1);
  const std::size_t manifest_bytes = std::min<std::size_t>(data[0], text.size());
  write_file("manifest.ocdbt", block_of("\x0c\xdb\x3a\x2a", text.substr(0, manifest_bytes)));
  write_file("n", block_of("\x0c\xdb\x20\xde", text.substr(manifest_bytes)));
  const auto store = fuzz::accepted([] { return io::Ocdbt::open(folder()); });
  if (!store) return 0;
  for (const auto& [key, value] : store->values()) {
    fuzz::require(store->find(key) == &value);
    fuzz::accepted([&value = value] { return value.text(1 << 20); });
  }
  return 0;
}
