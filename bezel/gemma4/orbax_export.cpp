#include "bezel/gemma4/orbax_export.h"

#include <algorithm>
#include <limits>
#include <map>
#include <set>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/accumulate.h>

#include "bezel/error.h"
#include "bezel/gemma4/gguf_parts.h"
#include "bezel/gemma4/load.h"
#include "bezel/gemma4/orbax_map.h"
#include "bezel/gemma4/source.h"
#include "bezel/io/new_folder.h"
#include "bezel/io/orbax_writer.h"
#include "bezel/io/tensor_io.h"
#include "bezel/nn/weight_site.h"

namespace bezel::gemma4 {
namespace {

using quant::GgufPart;
using torch::Tensor;

constexpr std::int64_t kSliceElements = std::int64_t{1} << 22;

// Rows of a part in `dtype`, some at a time, from the first on.
template <typename Use>
void for_each_slice(const GgufPart& part, torch::ScalarType dtype, const Use& use) {
  const std::int64_t columns = part.shape.back(), rows = c10::multiply_integers(part.shape) / columns;
  const std::int64_t step = std::max<std::int64_t>(1, kSliceElements / columns);
  for (std::int64_t begin = 0; begin < rows; begin += step) {
    const Tensor read = part.rows(begin, std::min(step, rows - begin));
    const bool sound =
        is_clip_bound(part.canonical) ? !read.isnan().any().item<bool>() : read.isfinite().all().item<bool>();
    if (!sound) throw Error("tensor '", part.canonical, "': holds NaN or Inf; are base and adapter sound?");
    use(begin * columns, read.to(dtype).contiguous());
  }
  if (part.evict) part.evict();
}

Tensor whole(const GgufPart& part, torch::ScalarType dtype) {
  const Tensor tensor = at::empty(part.shape, dtype);
  for_each_slice(part, dtype, [flat = tensor.view(-1)](std::int64_t first, const Tensor& rows) {
    flat.narrow(0, first, rows.numel()).copy_(rows.view(-1));
  });
  return tensor;
}

std::span<const std::byte> bytes_of(const Tensor& tensor) {
  return {static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()};
}

/// Writes arrays one after the other, each from the parts that lie in it.
class Writer {
 public:
  Writer(const OrbaxExport& made, std::optional<io::DType> dtype, const std::string& folder)
      : made_(made), dtype_(dtype), map_(names_of(made.arrays)), out_(folder) {
    for (const GgufPart& part : made.parts) parts_.emplace(part.canonical, &part);
  }

  OrbaxWritten run() {
    for (const OrbaxArray& array : made_.arrays) add(array);
    for (const auto& [name, part] : parts_)
      if (!used_.contains(name)) check_unplaced(name);
    out_.finish();
    return std::move(written_);
  }

 private:
  static std::vector<std::string> names_of(const std::vector<OrbaxArray>& arrays) {
    std::vector<std::string> names;
    for (const OrbaxArray& array : arrays) names.push_back(normal_orbax_name(array.name.path));
    return names;
  }

  const GgufPart* find(const std::string& canonical) {
    const auto found = parts_.find(canonical);
    if (found == parts_.end()) return nullptr;
    used_.insert(canonical);
    return found->second;
  }

  // float32 holds every type that a dense checkpoint has.
  torch::ScalarType type_of(const std::vector<OrbaxTensor>& tensors) const {
    if (dtype_) return io::to_scalar_type(*dtype_);
    for (const OrbaxTensor& tensor : tensors) {
      const auto found = parts_.find(tensor.name);
      if (found != parts_.end() && found->second->plain != io::GgufType::kBF16) return torch::kFloat;
    }
    return torch::kBFloat16;
  }

  void add(const OrbaxArray& array) {
    const auto tensors = map_.tensors_of(normal_orbax_name(array.name.path), array.shape);
    TORCH_CHECK(tensors, "array ", array.name.text(), " is not in the map");
    const torch::ScalarType type = type_of(*tensors);
    ++written_.arrays;
    written_.elements += c10::multiply_integers(array.shape);
    if (tensors->size() == 1 && tensors->front().contiguous() && !tensors->front().axes.empty())
      return add_in_slices(array, tensors->front(), type);
    const Tensor made = gather(array, *tensors, type);
    out_.put(array.name, io::to_dtype(type), array.shape,
             [&made](const io::OrbaxWriter::Put& put) { put(bytes_of(made)); });
  }

  void add_in_slices(const OrbaxArray& array, const OrbaxTensor& tensor, torch::ScalarType type) {
    const GgufPart* part = find(tensor.name);
    if (part != nullptr) check_shape(*part, tensor);
    out_.put(array.name, io::to_dtype(type), array.shape, [&](const io::OrbaxWriter::Put& put) {
      if (part == nullptr) return put(bytes_of(zeros(array, tensor, type)));
      for_each_slice(*part, type, [&put](std::int64_t, const Tensor& rows) { put(bytes_of(rows)); });
    });
  }

  // What no layer computes may be missing; Google's loader wants it all the same.
  Tensor zeros(const OrbaxArray& array, const OrbaxTensor& tensor, torch::ScalarType type) {
    TORCH_CHECK(is_unused_kv(tensor.name, made_.config.text), "tensor ", tensor.name, " is missing");
    if (written_.zeros.empty() || written_.zeros.back() != array.name.text())
      written_.zeros.push_back(array.name.text());
    return at::zeros(array.shape, type);
  }

  Tensor gather(const OrbaxArray& array, const std::vector<OrbaxTensor>& tensors, torch::ScalarType type) {
    const Tensor made = at::zeros(array.shape, type);
    const bool bounds = is_clip_bound(array.name.path.back());
    for (const OrbaxTensor& tensor : tensors) {
      const GgufPart* part = find(tensor.name);
      if (part != nullptr && !bounds) check_shape(*part, tensor);
      if (part != nullptr)
        place_of(made, tensor).copy_(whole(*part, type).view(sizes_of(tensor)));
      else if (bounds)
        place_of(made, tensor).fill_(missing_bound(tensor.name));
      else
        zeros(array, tensor, type);
    }
    if (bounds) check_bounds(array, tensors, made);
    return made;
  }

  static void check_shape(const GgufPart& part, const OrbaxTensor& tensor) {
    TORCH_CHECK(part.shape == tensor.shape, "tensor ", part.canonical, " of shape ", part.shape, " meets a place of ",
                tensor.shape);
  }

  static std::vector<std::int64_t> sizes_of(const OrbaxTensor& tensor) {
    std::vector<std::int64_t> sizes;
    for (const OrbaxAxis& axis : tensor.axes) sizes.push_back(axis.size);
    return sizes;
  }

  static Tensor place_of(const Tensor& array, const OrbaxTensor& tensor) {
    std::vector<std::int64_t> strides;
    for (const OrbaxAxis& axis : tensor.axes) strides.push_back(axis.stride);
    return array.as_strided(sizes_of(tensor), strides, tensor.first);
  }

  static double missing_bound(const std::string& name) {
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    return name.ends_with("_min") ? -kInfinity : kInfinity;
  }

  // Where two layers share an einsum, the second has overwritten the first.
  void check_bounds(const OrbaxArray& array, const std::vector<OrbaxTensor>& tensors, const Tensor& made) const {
    const torch::ScalarType type = made.scalar_type();
    for (const OrbaxTensor& tensor : tensors) {
      const auto found = parts_.find(tensor.name);
      const double own =
          found == parts_.end() ? missing_bound(tensor.name) : whole(*found->second, type).item<double>();
      const double kept = place_of(made, tensor).item<double>();
      if (own != kept)
        throw Error("tensor '", tensor.name, "' is ", own,
                    ", but the layer beside it, which shares its einsum in Google's ", "form, has ", kept,
                    ", and array '", array.name.text(), "' holds one bound for both; a model with ",
                    "bounds of their own for k and v, or gate and up, has no such form");
    }
  }

  void check_unplaced(const std::string& name) {
    if (!is_unused_kv(name, made_.config.text))
      throw Error("tensor '", name, "' has no place in the form of Google's JAX releases");
    written_.left_out.push_back(name);
  }

  const OrbaxExport& made_;
  std::optional<io::DType> dtype_;
  OrbaxMap map_;
  io::OrbaxWriter out_;
  std::map<std::string, const GgufPart*, std::less<>> parts_;
  std::set<std::string, std::less<>> used_;
  OrbaxWritten written_;
};

void refuse_other_models(const std::string& model, const ModelConfig& config) {
  if (config.is_unified())
    throw Error(ErrorKind::kConfig, model, ": the unified model (12B), whose form in Orbax is not known");
  if (config.family != Family::kGemma4)
    throw Error(ErrorKind::kConfig, model, ": not a Gemma 4; --to orbax writes Gemma 4's form alone");
  if (!config.text.tie_word_embeddings)
    throw Error(model,
                ": 'lm_head.weight' is a matrix of its own (tie_word_embeddings: false), for which Google's form ",
                "has no place");
}

/// Names a matrix that is stored in codes.
void refuse_codes(const std::string& model, const ModelConfig& config, const Source& source) {
  const Model tree = meta_model(config, torch::kBFloat16);
  nn::for_each_module(*tree, [&](const std::string& module, const nn::Module& node) {
    for (const nn::Slot& slot : node.slots()) {
      if (slot.kind != nn::SlotKind::kMatrix) continue;
      const std::string name = slot.name == "weight" ? module : module + "." + slot.name;
      if (!source.names_of_codes(name).empty())
        throw Error(ErrorKind::kConfig, model, ": layer '", name,
                    "' is quantized, and Google's form has dense arrays alone; take the checkpoint in bfloat16, or ",
                    "make a dense one first (bezel merge)");
    }
  });
}

}  // namespace

OrbaxExport plan_orbax_export(const std::string& model) {
  if (io::is_gguf_path(model))
    throw Error(ErrorKind::kConfig, model, ": a GGUF file; --to orbax takes a checkpoint folder with dense matrices");
  OrbaxExport made;
  made.config = read_model_config(model);
  refuse_other_models(model, made.config);
  Source source(model);
  refuse_codes(model, made.config, source);
  made.warnings = load_model(model, {}).warnings;  // complete, and of the shapes that its config says
  made.arrays = orbax_arrays(made.config);
  std::vector<std::string> left_out;
  const auto own_name = [](std::string_view canonical) { return std::optional(std::string(canonical)); };
  made.parts = checkpoint_parts(source, made.config, own_name, left_out);
  return made;
}

OrbaxWritten write_orbax(const OrbaxExport& made, std::optional<io::DType> dtype, const std::string& output) {
  const at::NoGradGuard no_grad;
  io::NewFolder folder(output);
  OrbaxWritten written = Writer(made, dtype, folder.path().string()).run();
  folder.commit();
  return written;
}

}  // namespace bezel::gemma4
