// The header of a safetensors file, and that every tensor lies in the file.
#include "bezel/io/safetensors.h"

#include "fuzz/target.h"

namespace {

using namespace bezel;

void check_tensors(const io::SafetensorsFile& file, std::size_t file_bytes) {
  unsigned sum = 0;
  std::size_t data_bytes = 0;
  for (const io::TensorInfo& tensor : file.tensors()) {
    const std::size_t size_bytes = tensor.end_bytes - tensor.begin_bytes;
    fuzz::require(file.find(tensor.name) == &tensor);
    std::size_t wanted_bytes = io::dtype_bytes(tensor.dtype);
    for (const std::int64_t dim : tensor.shape) wanted_bytes *= static_cast<std::size_t>(dim);
    fuzz::require(wanted_bytes == size_bytes);
    // Read for the sanitizer, and for the kernel: both ends are inside.
    if (size_bytes > 0) sum += std::to_integer<unsigned>(file.data(tensor)[0] ^ file.data(tensor)[size_bytes - 1]);
    data_bytes += size_bytes;
  }
  fuzz::require(file.data_begin() + data_bytes == file_bytes && sum < 256 * (file.tensors().size() + 1));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string path = fuzz::as_file(data, size);
  const auto file = fuzz::accepted([&] { return io::SafetensorsFile::open(path); });
  if (file) check_tensors(**file, size);
  return 0;
}
