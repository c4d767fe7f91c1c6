#include "bezel/io/tensor_io.h"

#include <array>
#include <cstdint>
#include <cstring>
#include <memory>

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

// What keeps the map of a tensor alive, and tells it from other tensors.
struct Mapped {
  std::shared_ptr<const SafetensorsFile> file;
  TensorInfo info;
};

void drop_mapped(void* mapped) { delete static_cast<Mapped*>(mapped); }

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
  // BOOL goes by way of bytes: a bool that is neither 0 nor 1 is undefined behaviour.
  const bool is_bool = info.dtype == DType::kBool;
  const auto options = torch::dtype(is_bool ? torch::kUInt8 : to_scalar_type(info.dtype));
  if (info.begin_bytes == info.end_bytes) return torch::empty(info.shape, is_bool ? torch::kBool : options);
  const std::byte* bytes = file->data(info);
  if (reinterpret_cast<std::uintptr_t>(bytes) % dtype_bytes(info.dtype) != 0) {
    torch::Tensor copy = torch::empty(info.shape, options);
    std::memcpy(copy.data_ptr(), bytes, info.end_bytes - info.begin_bytes);
    return copy;
  }
  auto* data = const_cast<std::byte*>(bytes);
  const torch::Tensor view =
      at::for_blob(data, info.shape).context(new Mapped{file, info}, &drop_mapped).options(options).make_tensor();
  return is_bool ? view.ne(0) : view;
}

void release_pages(const torch::Tensor& tensor) {
  if (tensor.is_meta()) return;
  const auto* mapped = tensor.storage().data_ptr().cast_context<Mapped>(&drop_mapped);
  if (mapped != nullptr) mapped->file->release(mapped->info);
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
