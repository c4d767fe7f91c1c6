#include "bezel/gemma4/orbax_tensor.h"

#include <cstring>

namespace bezel::gemma4 {
namespace {

std::uint16_t to_bfloat16(std::uint32_t bits) {
  constexpr std::uint32_t kInfinity = 0x7f800000, kQuiet = 0x40;
  if ((bits & 0x7fffffff) > kInfinity) return static_cast<std::uint16_t>(bits >> 16 | kQuiet);
  return static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/// Copies a tensor's elements out of an array, in the tensor's order.
template <typename Element>
void gather(const OrbaxTensor& tensor, const std::byte* array, std::byte* out) {
  const std::size_t dims = tensor.axes.size();
  std::vector<std::int64_t> idx(dims, 0);
  std::int64_t at = tensor.first;
  const OrbaxAxis inner = dims == 0 ? OrbaxAxis{1, 0} : tensor.axes.back();
  for (;;) {
    for (std::int64_t i = 0; i < inner.size; ++i, out += sizeof(Element))
      std::memcpy(out, array + static_cast<std::size_t>(at + i * inner.stride) * sizeof(Element), sizeof(Element));
    std::size_t dim = dims == 0 ? 0 : dims - 1;
    for (; dim > 0; --dim) {
      at += tensor.axes[dim - 1].stride;
      if (++idx[dim - 1] < tensor.axes[dim - 1].size) break;
      at -= tensor.axes[dim - 1].stride * tensor.axes[dim - 1].size;
      idx[dim - 1] = 0;
    }
    if (dim == 0) return;
  }
}

/// One tensor, in the array's own order: written while the array is read.
void write_in_pieces(const io::ZarrArray& array, const io::TensorSpec& spec, io::TensorSink& sink) {
  const auto put = sink.put_pieces(spec.name);
  const std::size_t element_bytes = io::dtype_bytes(spec.dtype);
  array.read([&](std::size_t first, std::span<const std::byte> bytes) {
    const std::vector<std::byte> converted = convert_elements(bytes, array.dtype(), spec.dtype);
    put(first * element_bytes, converted.data(), converted.size());
  });
}

void write_gathered(const io::ZarrArray& array, const std::vector<OrbaxTensor>& tensors,
                    const std::vector<io::TensorSpec>& specs, io::TensorSink& sink) {
  const io::DType dtype = specs.front().dtype;
  const std::size_t element_bytes = io::dtype_bytes(dtype);
  std::vector<std::byte> whole(array.num_elements() * element_bytes);
  array.read([&](std::size_t first, std::span<const std::byte> bytes) {
    const std::vector<std::byte> converted = convert_elements(bytes, array.dtype(), dtype);
    std::memcpy(whole.data() + first * element_bytes, converted.data(), converted.size());
  });
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    std::vector<std::byte> bytes(specs[i].size_bytes());
    if (bytes.empty()) continue;
    if (element_bytes == 2)
      gather<std::uint16_t>(tensors[i], whole.data(), bytes.data());
    else
      gather<std::uint32_t>(tensors[i], whole.data(), bytes.data());
    sink.put(specs[i].name, bytes.data(), bytes.size());
  }
}

}  // namespace

std::vector<std::byte> convert_elements(std::span<const std::byte> bytes, io::DType from, io::DType to) {
  if (from == to) return {bytes.begin(), bytes.end()};
  const std::size_t count = bytes.size() / io::dtype_bytes(from);
  std::vector<std::byte> out(count * io::dtype_bytes(to));
  for (std::size_t i = 0; i < count; ++i) {
    if (to == io::DType::kBF16) {
      std::uint32_t bits = 0;
      std::memcpy(&bits, bytes.data() + i * sizeof bits, sizeof bits);
      const std::uint16_t rounded = to_bfloat16(bits);
      std::memcpy(out.data() + i * sizeof rounded, &rounded, sizeof rounded);
    } else {
      std::uint16_t half = 0;
      std::memcpy(&half, bytes.data() + i * sizeof half, sizeof half);
      const std::uint32_t bits = std::uint32_t{half} << 16;
      std::memcpy(out.data() + i * sizeof bits, &bits, sizeof bits);
    }
  }
  return out;
}

io::CheckpointPart orbax_part(std::shared_ptr<const io::ZarrArray> array, std::vector<OrbaxTensor> tensors,
                              const std::vector<std::string>& stored, io::DType dtype) {
  std::vector<io::TensorSpec> specs;
  for (std::size_t i = 0; i < tensors.size(); ++i) specs.push_back({stored[i], dtype, tensors[i].shape});
  const bool in_pieces = tensors.size() == 1 && tensors[0].contiguous();
  const auto write = [array = std::move(array), tensors = std::move(tensors), specs, in_pieces](io::TensorSink& sink) {
    if (in_pieces)
      write_in_pieces(*array, specs[0], sink);
    else
      write_gathered(*array, tensors, specs, sink);
  };
  return {specs, write};
}

}  // namespace bezel::gemma4
