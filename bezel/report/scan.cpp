#include <algorithm>
#include <bit>
#include <cstring>
#include <filesystem>
#include <span>

#include "bezel/io/checkpoint.h"
#include "bezel/io/gguf_model.h"
#include "bezel/io/tensor_io.h"
#include "bezel/io/zarr.h"
#include "bezel/kernels/unpack.h"
#include "bezel/lora/file_names.h"
#include "bezel/report/inspect.h"

namespace bezel::report {
namespace {

using io::DType;
using io::Json;

struct Count {
  std::int64_t nan = 0;
  std::int64_t inf = 0;
};

/// Counts by bit pattern: all exponent bits set is Inf, or NaN where the mantissa is not zero.
template <typename Bits>
Count count_values(const std::byte* data, std::size_t size_bytes, Bits exponent, Bits mantissa) {
  Count count;
  for (std::size_t i = 0; i + sizeof(Bits) <= size_bytes; i += sizeof(Bits)) {
    Bits bits = 0;
    std::memcpy(&bits, data + i, sizeof bits);
    if ((bits & exponent) != exponent) continue;
    ++((bits & mantissa) != 0 ? count.nan : count.inf);
  }
  return count;
}

Count count_elements(DType dtype, const std::byte* data, std::size_t size_bytes) {
  switch (dtype) {
    case DType::kBF16:
      return count_values<std::uint16_t>(data, size_bytes, 0x7f80, 0x007f);
    case DType::kF16:
      return count_values<std::uint16_t>(data, size_bytes, 0x7c00, 0x03ff);
    case DType::kF32:
      return count_values<std::uint32_t>(data, size_bytes, 0x7f800000u, 0x007fffffu);
    case DType::kF64:
      return count_values<std::uint64_t>(data, size_bytes, 0x7ff0000000000000u, 0x000fffffffffffffu);
    default:
      return {};
  }
}

Count count_tensor(const io::SafetensorsFile& file, const io::TensorInfo& info) {
  return count_elements(info.dtype, file.data(info), info.end_bytes - info.begin_bytes);
}

bool may_be_infinite(std::string_view name) {
  return name.ends_with(".input_min") || name.ends_with(".input_max") || name.ends_with(".output_min") ||
         name.ends_with(".output_max");
}

void scan_file(const io::SafetensorsFile& file, Json& out) {
  for (const io::TensorInfo& info : file.tensors()) {
    Count count = count_tensor(file, info);
    if (may_be_infinite(info.name)) count.inf = 0;
    if (count.nan + count.inf > 0)
      out.push_back({{"tensor", info.name}, {"file", file.path()}, {"nan", count.nan}, {"inf", count.inf}});
  }
}

/// Values of packed tensors are looked at a few rows at a time.
Count count_tensor(const std::shared_ptr<const io::GgufFile>& file, const io::GgufTensor& info) {
  const auto count_floats = [](const torch::Tensor& values) {
    return count_values<std::uint32_t>(static_cast<const std::byte*>(values.const_data_ptr()), values.nbytes(),
                                       0x7f800000u, 0x007fffffu);
  };
  constexpr std::int64_t kRows = 256;
  const torch::Tensor mapped = io::map_tensor(file, info);
  if (!io::is_packed(info.type)) return count_floats(mapped.to(torch::kFloat).contiguous());
  Count count;
  for (std::int64_t begin = 0; begin < mapped.size(0); begin += kRows) {
    const torch::Tensor rows = mapped.narrow(0, begin, std::min(kRows, mapped.size(0) - begin));
    const Count part = count_floats(kernels::unpack(rows, info.type, torch::kFloat));
    count = {count.nan + part.nan, count.inf + part.inf};
  }
  return count;
}

Json scan_gguf(const std::string& path, const std::string& mmproj) {
  Json out = Json::array();
  const io::GgufModel model = io::GgufModel::open(path, mmproj);
  for (const auto& [name, entry] : model.entries())
    if (const Count count = count_tensor(entry.file, *entry.info); count.nan + count.inf > 0)
      out.push_back({{"tensor", name}, {"file", entry.file->path()}, {"nan", count.nan}, {"inf", count.inf}});
  return out;
}

Json scan_orbax(const std::string& folder) {
  Json out = Json::array();
  const io::ZarrStore store = io::ZarrStore::open(folder);
  for (const io::ZarrName& name : store.names()) {
    const io::ZarrArray array = io::ZarrArray::open(store, name.text());
    Count count;
    array.read([&](std::size_t, std::span<const std::byte> bytes) {
      const Count part = count_elements(array.dtype(), bytes.data(), bytes.size());
      count = {count.nan + part.nan, count.inf + part.inf};
    });
    if (name.path.back().starts_with("clip_")) count.inf = 0;
    if (count.nan + count.inf > 0)
      out.push_back({{"tensor", name.text()}, {"file", store.folder()}, {"nan", count.nan}, {"inf", count.inf}});
  }
  return out;
}

}  // namespace

Json scan_values(const std::string& folder, const std::string& mmproj) {
  if (io::is_gguf_path(folder)) return scan_gguf(folder, mmproj);
  Json out = Json::array();
  const auto adapter = std::filesystem::path(folder) / lora::kAdapterWeights;
  std::error_code error;
  if (std::filesystem::exists(adapter, error)) {
    scan_file(*io::SafetensorsFile::open(adapter.string()), out);
    return out;
  }
  if (io::find_orbax_folder(folder)) return scan_orbax(folder);
  const io::Checkpoint checkpoint = io::Checkpoint::open(folder);
  const io::SafetensorsFile* last = nullptr;
  std::map<std::string, std::shared_ptr<const io::SafetensorsFile>> files;
  for (const auto& [name, entry] : checkpoint.entries()) {
    if (entry.file.get() != last) files.emplace(entry.file->path(), entry.file);
    last = entry.file.get();
  }
  for (const auto& [path, file] : files) scan_file(*file, out);
  return out;
}

}  // namespace bezel::report
