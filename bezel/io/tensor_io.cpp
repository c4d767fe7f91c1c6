#include "bezel/io/tensor_io.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <memory>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <sys/mman.h>

#include "bezel/error.h"

namespace bezel::io {
namespace {

constexpr std::array<std::pair<DType, torch::ScalarType>, 13> kTypes{{{DType::kBool, torch::kBool},
                                                                      {DType::kU8, torch::kUInt8},
                                                                      {DType::kI8, torch::kInt8},
                                                                      {DType::kU16, torch::kUInt16},
                                                                      {DType::kI16, torch::kInt16},
                                                                      {DType::kF16, torch::kFloat16},
                                                                      {DType::kBF16, torch::kBFloat16},
                                                                      {DType::kU32, torch::kUInt32},
                                                                      {DType::kI32, torch::kInt32},
                                                                      {DType::kF32, torch::kFloat32},
                                                                      {DType::kU64, torch::kUInt64},
                                                                      {DType::kI64, torch::kInt64},
                                                                      {DType::kF64, torch::kFloat64}}};

// What a mapped tensor's storage keeps alive.
using Map = std::shared_ptr<const MappedFile>;

void drop_map(void* map) { delete static_cast<Map*>(map); }

const MappedFile* map_of(const torch::Tensor& tensor) {
  const Map* map = tensor.is_meta() ? nullptr : tensor.storage().data_ptr().cast_context<Map>(&drop_map);
  return map == nullptr ? nullptr : map->get();
}

/// A tensor over the bytes of `info`, which `file` has, or a copy of them when they are not aligned to their element
/// size.
template <typename File, typename Info>
torch::Tensor over(const std::shared_ptr<const File>& file, const Info& info, std::size_t size_bytes,
                   const std::vector<std::int64_t>& shape, torch::ScalarType type) {
  const std::byte* bytes = file->data(info);
  if (reinterpret_cast<std::uintptr_t>(bytes) % c10::elementSize(type) != 0) {
    torch::Tensor copy = torch::empty(shape, type);
    std::memcpy(copy.data_ptr(), bytes, size_bytes);
    return copy;
  }
  return at::for_blob(const_cast<std::byte*>(bytes), shape)
      .context(new Map(file->map()), &drop_map)
      .options(torch::dtype(type))
      .make_tensor();
}

}  // namespace

torch::ScalarType to_scalar_type(DType dtype) {
  for (const auto& [ours, theirs] : kTypes)
    if (ours == dtype) return theirs;
  throw Error("safetensors type ", dtype_name(dtype), " has no tensor type");
}

DType to_dtype(torch::ScalarType type) {
  for (const auto& [ours, theirs] : kTypes)
    if (theirs == type) return ours;
  throw Error("tensors of type ", c10::toString(type), " cannot be written to a safetensors file");
}

torch::Tensor map_tensor(const std::shared_ptr<const SafetensorsFile>& file, const TensorInfo& info) {
  // BOOL goes by way of bytes: a bool that is neither 0 nor 1 is undefined behavior.
  const bool is_bool = info.dtype == DType::kBool;
  const auto type = is_bool ? torch::kUInt8 : to_scalar_type(info.dtype);
  if (info.begin_bytes == info.end_bytes) return torch::empty(info.shape, is_bool ? torch::kBool : type);
  const torch::Tensor view = over(file, info, info.end_bytes - info.begin_bytes, info.shape, type);
  return is_bool ? view.ne(0) : view;
}

bool is_mapped(const torch::Tensor& tensor) { return map_of(tensor) != nullptr; }

void evict(const torch::Tensor& tensor, std::int64_t first_row) {
  const MappedFile* map = map_of(tensor);
  if (map == nullptr) return;
  constexpr std::int64_t kPart = 2 << 20;  // of whole pages, of the large ones too
  const auto size = static_cast<std::int64_t>(tensor.nbytes());
  const std::int64_t first = first_row == 0 ? 0 : size / tensor.size(0) * first_row;
  const auto* bytes = static_cast<const std::byte*>(tensor.const_data_ptr());
  // The system takes 30 ms for the pages of a head of 805 MB: every thread has its part of them.
  at::parallel_for(first / kPart, (size + kPart - 1) / kPart, 4, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t from = std::max(begin * kPart, first), to = std::min(end * kPart, size);
    map->evict(bytes + from, static_cast<std::size_t>(to - from));
  });
}

torch::Tensor read_rows(const torch::Tensor& tensor, const torch::Tensor& index) {
  const MappedFile* map = map_of(tensor);
  if (map == nullptr || !tensor.is_contiguous()) return tensor.index_select(0, index);
  std::vector<std::int64_t> shape = tensor.sizes().vec();
  const std::int64_t count = index.size(0), rows = shape[0];
  shape[0] = count;
  torch::Tensor taken = at::empty(shape, tensor.options());
  const std::size_t row_bytes = tensor.nbytes() / static_cast<std::size_t>(std::max<std::int64_t>(rows, 1));
  const torch::Tensor places = index.contiguous();
  const auto* place = places.const_data_ptr<std::int64_t>();
  const auto* from = static_cast<const std::byte*>(tensor.const_data_ptr());
  auto* to = static_cast<std::byte*>(taken.mutable_data_ptr());
  at::parallel_for(0, count, 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      TORCH_CHECK_INDEX(place[i] >= 0 && place[i] < rows, "no row ", place[i], " in a tensor of ", rows);
      map->read(from + static_cast<std::size_t>(place[i]) * row_bytes, row_bytes,
                to + static_cast<std::size_t>(i) * row_bytes);
    }
  });
  return taken;
}

torch::Tensor in_large_pages(const torch::Tensor& tensor) {
  constexpr std::size_t kPage = std::size_t{2} << 20;
  const std::size_t bytes = (tensor.nbytes() + 2 * kPage - 1) / kPage * kPage;  // space to begin at a page's start
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    throw Error(ErrorKind::kMemory, "no memory for a copy of ", tensor.nbytes(), " bytes of weights");
  ::madvise(memory, bytes, MADV_HUGEPAGE);  // a wish
  void* start = reinterpret_cast<void*>((reinterpret_cast<std::uintptr_t>(memory) + kPage - 1) / kPage * kPage);
  torch::Tensor copy = at::from_blob(
      start, tensor.sizes(), [memory, bytes](void*) { ::munmap(memory, bytes); }, tensor.options());
  return copy.copy_(tensor);
}

torch::Tensor map_tensor(const std::shared_ptr<const GgufFile>& file, const GgufTensor& info) {
  if (is_packed(info.type)) {
    const GgufTypeInfo& type = gguf_type_info(info.type);
    const std::int64_t row_bytes = info.shape.back() / type.block_elements * type.block_bytes;
    const std::int64_t rows = static_cast<std::int64_t>(info.size_bytes) / row_bytes;
    return over(file, info, info.size_bytes, {rows, row_bytes}, torch::kUInt8);
  }
  const auto type = info.type == GgufType::kF32   ? torch::kFloat
                    : info.type == GgufType::kF16 ? torch::kHalf
                                                  : torch::kBFloat16;
  return over(file, info, info.size_bytes, info.shape, type);
}

void put_tensor(TensorSink& sink, const std::string& name, const torch::Tensor& tensor) {
  const torch::Tensor plain = tensor.detach().to(torch::kCPU).contiguous();
  sink.put(name, plain.const_data_ptr(), plain.nbytes());
}

std::map<std::string, torch::Tensor> load_safetensors(const std::string& path) {
  const auto file = SafetensorsFile::open(path);
  std::map<std::string, torch::Tensor> tensors;
  for (const TensorInfo& info : file->tensors()) tensors.emplace(info.name, map_tensor(file, info));
  return tensors;
}

void save_safetensors(const std::string& path, const std::vector<std::pair<std::string, torch::Tensor>>& tensors,
                      const std::map<std::string, std::string>& metadata) {
  std::vector<torch::Tensor> kept_alive;
  std::vector<TensorBytes> bytes;
  for (const auto& [name, tensor] : tensors) {
    const torch::Tensor plain = tensor.detach().to(torch::kCPU).contiguous();
    kept_alive.push_back(plain);
    bytes.push_back({name, to_dtype(plain.scalar_type()), plain.sizes().vec(), plain.data_ptr(), plain.nbytes()});
  }
  write_safetensors(path, bytes, metadata);
}

}  // namespace bezel::io
