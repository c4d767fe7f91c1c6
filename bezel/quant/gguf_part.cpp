#include "bezel/quant/gguf_part.h"

#include <algorithm>
#include <cmath>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/accumulate.h>

#include "bezel/error.h"
#include "bezel/kernels/pack.h"
#include "bezel/kernels/unpack.h"

namespace bezel::quant {
namespace {

using torch::Tensor;

constexpr std::int64_t kSliceElements = std::int64_t{1} << 22;

torch::ScalarType floating_type(io::GgufType type) {
  return type == io::GgufType::kF32 ? torch::kFloat : type == io::GgufType::kF16 ? torch::kHalf : torch::kBFloat16;
}

double norm_of(const Tensor& tensor) { return tensor.norm().item<double>(); }

bool all_finite(const Tensor& tensor) { return tensor.isfinite().all().item<bool>(); }

// Writes the rows of a part and measures what packing them loses.
class Writer {
 public:
  Writer(const GgufPart& part, io::GgufSink& sink) : part_(part), sink_(sink) {}

  void run() {
    const std::int64_t columns = part_.columns > 0 ? part_.columns : part_.shape.back();
    const std::int64_t rows = c10::multiply_integers(part_.shape) / columns;
    const std::int64_t step = std::max<std::int64_t>(1, kSliceElements / columns);
    for (std::int64_t begin = 0; begin < rows; begin += step) {
      const Tensor read = part_.rows(begin, std::min(step, rows - begin));
      put((part_.reorder ? part_.reorder(read) : read).contiguous());
    }
  }

  void count(GgufReport& report) const {
    if (!io::is_packed(part_.type)) return;
    const double update = part_.update_norm ? *part_.update_norm : 0.0;
    report.packed.add(part_.canonical, error_, matrix_, update);
    if (part_.update_norm) report.merged.add(part_.canonical, error_, matrix_, update);
  }

 private:
  void put(const Tensor& rows) {
    // A clip bound may be infinite: nothing is clipped at it.
    const bool is_sound = part_.may_be_infinite ? !rows.isnan().any().item<bool>() : all_finite(rows);
    if (!is_sound) throw Error("tensor '", part_.name, "': holds NaN or Inf; are base and adapter sound?");
    if (!io::is_packed(part_.type)) return put_bytes(as_floating(rows));
    const Tensor packed = kernels::pack(rows, part_.type);
    put_bytes(packed);
    error_ = std::hypot(error_, norm_of(kernels::unpack(packed, part_.type, torch::kFloat) - rows));
    matrix_ = std::hypot(matrix_, norm_of(rows));
  }

  Tensor as_floating(const Tensor& rows) const {
    const Tensor made = rows.to(floating_type(part_.type));
    if (part_.type == io::GgufType::kF16 && !all_finite(made))
      throw Error("tensor '", part_.name, "': has values beyond 65504, which float16 cannot hold; take --type bf16");
    return made;
  }

  void put_bytes(const Tensor& tensor) { sink_.put(tensor.const_data_ptr(), tensor.nbytes()); }

  const GgufPart& part_;
  io::GgufSink& sink_;
  double error_ = 0.0, matrix_ = 0.0;
};

}  // namespace

RowsOf rows_of(const Tensor& tensor, double offset) {
  const Tensor matrix = tensor.reshape({-1, tensor.size(-1)});
  return [matrix, offset](std::int64_t begin, std::int64_t count) {
    const Tensor rows = matrix.narrow(0, begin, count).to(torch::kFloat);
    return offset == 0.0 ? rows : rows + offset;
  };
}

RowsOf rows_of(const Tensor& packed, io::GgufType type) {
  return [packed, type](std::int64_t begin, std::int64_t count) {
    return kernels::unpack(packed.narrow(0, begin, count), type, torch::kFloat);
  };
}

RowsOf rows_of(const std::shared_ptr<const Weight>& weight) {
  const std::vector<std::int64_t> shape = weight->shape();
  const bool stack = shape.size() == 3;
  return [weight, stack, each = shape[shape.size() - 2]](std::int64_t begin, std::int64_t count) {
    std::vector<Tensor> pieces;
    for (std::int64_t row = begin; row < begin + count;) {
      const std::int64_t first = row % each, rows = std::min(begin + count - row, each - first);
      const auto matrix = stack ? weight->select(row / each) : weight;
      pieces.push_back(matrix->rows(at::arange(first, first + rows), torch::kFloat));
      row += rows;
    }
    return pieces.size() == 1 ? pieces.front() : at::cat(pieces);
  };
}

void PackingError::add(const std::string& name, double one_error, double one_matrix, double one_update) {
  ++matrices;
  error = std::hypot(error, one_error);
  matrix = std::hypot(matrix, one_matrix);
  update = std::hypot(update, one_update);
  if (one_matrix == 0 || one_error / one_matrix < worst_error) return;
  worst_error = one_error / one_matrix;
  worst = name;
}

void check_packable(const GgufPart& part) {
  if (part.as_stored || !io::is_packed(part.type) || kernels::can_pack(part.type)) return;
  throw Error(ErrorKind::kConfig, "tensor '", part.name, "' is stored as ", io::gguf_type_info(part.type).name,
              ", which is read but not written; take --type q4_k_m, q8_0 or bf16 for the new file");
}

io::NewGgufTensor new_tensor(const GgufPart& part, GgufReport& report) {
  ++report.tensors;
  if (part.as_stored) {
    ++report.copied;
    io::NewGgufTensor tensor = io::copied_tensor(*part.as_stored);
    tensor.name = part.name;
    return tensor;
  }
  check_packable(part);
  return {part.name, part.type, part.shape, [part, &report](io::GgufSink& sink) {
            const at::NoGradGuard no_grad;
            Writer writer(part, sink);
            writer.run();
            writer.count(report);
            if (part.evict) part.evict();
          }};
}

void choose_types(GgufMix mix, std::int64_t num_layers, std::int64_t num_experts, std::vector<GgufPart>& parts) {
  std::ranges::sort(parts, gguf_name_before, &GgufPart::name);
  std::vector<GgufMatrix> matrices;
  for (const GgufPart& part : parts) matrices.push_back({part.name, part.shape, part.plain});
  const std::vector<io::GgufType> types = gguf_types(mix, matrices, num_layers, num_experts);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    parts[i].type = types[i];
    if (parts[i].as_stored && parts[i].as_stored->info->type != types[i]) parts[i].as_stored.reset();
  }
}

}  // namespace bezel::quant
