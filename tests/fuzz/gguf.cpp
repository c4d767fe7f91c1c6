// A GGUF file: its metadata, that every tensor lies in it, and the tokenizer that its metadata may hold.
#include "bezel/io/gguf.h"

#include <vector>

#include "bezel/data/tokenizer.h"
#include "fuzz/target.h"

namespace {

using namespace bezel;

void check_tensors(const io::GgufFile& file, std::size_t file_bytes) {
  unsigned sum = 0;
  std::size_t end = 0;
  for (const io::GgufTensor& tensor : file.tensors()) {
    fuzz::require(file.find(tensor.name) == &tensor);
    const io::GgufTypeInfo& type = io::gguf_type_info(tensor.type);
    std::size_t elements = 1;
    for (const std::int64_t dim : tensor.shape) elements *= static_cast<std::size_t>(dim);
    fuzz::require(tensor.size_bytes == elements / static_cast<std::size_t>(type.block_elements) *
                                           static_cast<std::size_t>(type.block_bytes));
    fuzz::require(tensor.begin_bytes >= end);
    end = tensor.begin_bytes + tensor.size_bytes;
    fuzz::require(end <= file_bytes);
    // Read for the sanitizer, and for the kernel: both ends are inside.
    if (tensor.size_bytes > 0)
      sum += std::to_integer<unsigned>(file.data(tensor)[0] ^ file.data(tensor)[tensor.size_bytes - 1]);
  }
  fuzz::require(sum < 256 * (file.tensors().size() + 1));
}

// Every getter on every value: each returns, or says what it found.
void check_values(const io::GgufFile& file) {
  for (const auto& [key, value] : file.metadata()) {
    fuzz::require(file.get(key) == &value);
    fuzz::accepted([&value = value] { return value.whole(-5, 1 << 20); });
    fuzz::accepted([&value = value] { return value.number(); });
    fuzz::accepted([&value = value] { return value.boolean(); });
    fuzz::accepted([&value = value] { return value.text(); });
    fuzz::accepted([&value = value] { return value.wholes(0, 9); });
    fuzz::accepted([&value = value] { return value.floats(); });
    fuzz::accepted([&value = value] { return value.booleans(); });
    const auto texts = fuzz::accepted([&value = value] { return value.texts(); });
    if (texts) fuzz::require(texts->size() == value.size());
  }
}

void check_tokenizer(const io::GgufFile& file) {
  const auto tokenizer = fuzz::accepted([&] { return data::Tokenizer::from_gguf(file); });
  if (!tokenizer) return;
  for (const std::int64_t id : tokenizer->encode("a b<bos>\xC3\xA9", true).ids)
    fuzz::require(id >= 0 && id < tokenizer->vocab_size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string path = fuzz::as_file(data, size);
  const auto file = fuzz::accepted([&] { return io::GgufFile::open(path); });
  if (!file) return 0;
  check_tensors(**file, size);
  check_values(**file);
  check_tokenizer(**file);
  return 0;
}
