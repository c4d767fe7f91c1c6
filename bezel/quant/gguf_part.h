#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <torch/types.h>

#include "bezel/io/gguf_writer.h"
#include "bezel/quant/gguf_mix.h"
#include "bezel/quant/weight.h"

namespace bezel::quant {

/// Rows [begin, begin + count) of a tensor in float32 [count, columns]. A vector is one row; a stack has the rows of
/// its matrices one after the other.
using RowsOf = std::function<torch::Tensor(std::int64_t begin, std::int64_t count)>;

/// Rows of a floating tensor, with `offset` added to its values.
RowsOf rows_of(const torch::Tensor& tensor, double offset = 0.0);
/// Rows of packed blocks as io::map_tensor gives them.
RowsOf rows_of(const torch::Tensor& packed, io::GgufType type);
/// Rows of a quantized matrix, or of a stack of them.
RowsOf rows_of(const std::shared_ptr<const Weight>& weight);

/// A tensor of a base on its way into a GGUF file.
struct GgufPart {
  std::string canonical;  ///< Bezel's name
  std::string name;       ///< in the file
  std::vector<std::int64_t> shape;
  io::GgufType type = io::GgufType::kF32;   ///< what it is written as
  io::GgufType plain = io::GgufType::kF32;  ///< see GgufMatrix
  RowsOf rows;
  /// What is done to rows that were read, an adapter's update included: their columns in another order. Null: nothing.
  std::function<torch::Tensor(const torch::Tensor&)> reorder{};
  std::int64_t columns = 0;  ///< of `rows`, where that is not the last dimension
  bool may_be_infinite = false;
  std::optional<io::GgufModel::Entry> as_stored{};  ///< in a file that has it in `type` already: copied, not packed
  std::function<void()> evict{};                    ///< evicts the pages that `rows` read
  std::shared_ptr<double> update_norm{};  ///< of an adapter inside: the norm of its update, once rows were read
};

/// Quantization error of packed values over some matrices: Frobenius norms.
struct PackingError {
  std::int64_t matrices = 0;
  double error = 0.0;
  double matrix = 0.0;
  double update = 0.0;  ///< of the adapters inside
  std::string worst;    ///< the matrix with the largest error beside its own size
  double worst_error = 0.0;

  void add(const std::string& name, double one_error, double one_matrix, double one_update);
};

struct GgufReport {
  std::int64_t tensors = 0;
  std::int64_t copied = 0;  ///< byte for byte
  PackingError packed;      ///< of all matrices that were packed
  PackingError merged;      ///< of those with an adapter inside
};

/// Throws Error (kConfig) when `part` would have to be packed as a type that is only read.
void check_packable(const GgufPart& part);

/// What io::write_gguf needs to write `part`, some rows at a time. Counts into `report`, which must outlive it, when it
/// is written. Writing throws Error when a value is not finite, or does not fit float16.
io::NewGgufTensor new_tensor(const GgufPart& part, GgufReport& report);

/// Sets the type of every part as gguf_types chooses it, and sorts them.
void choose_types(GgufMix mix, std::int64_t num_layers, std::int64_t num_experts, std::vector<GgufPart>& parts);

}  // namespace bezel::quant
