#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "bezel/quant/stored_format.h"
#include "bezel/quant/weight.h"

namespace bezel::quant {

/// The tensors that a checkpoint keeps for one matrix, by suffix after the module's name: "weight",
/// "weight.absmax", "SCB", "weight_packed", …
using StoredParts = std::map<std::string, torch::Tensor>;

/// Names behind a module's that belong to its matrix `weight`: the matrix itself and what quantizers store beside it.
bool is_part_of_matrix(std::string_view suffix);

/// Whether a part of this name exists only beside a quantized matrix: the codes of another type than `weight`, or what
/// says how `weight` is to be read.
bool marks_codes(std::string_view suffix);

/// Whether these parts hold a quantized matrix rather than a floating one.
bool is_quantized(const StoredParts& parts);

/// The content of a quant_state tensor; `name` is for errors. Throws Error as read_quant_state does.
QuantState parse_quant_state(const torch::Tensor& bytes, const std::string& name);

/// The dtype that a quant_state names.
torch::ScalarType dtype_named(const std::string& name);

/// Makes a weight of `shape` [out, in] from its parts without copying them. `name` (file and tensor) is for errors.
/// bitsandbytes NF4 and FP4: weight uint8, weight.absmax, weight.quant_state.bitsandbytes__nf4, and nested ones with
/// weight.nested_absmax and weight.nested_quant_map. bitsandbytes int8: weight int8, SCB. compressed-tensors:
/// weight_packed int32 or weight int8, weight_scale, weight_shape. Throws Error when one is missing, contradicts the
/// others or the shape, or is not known.
std::shared_ptr<const Weight> stored_weight(const StoredParts& parts, const std::vector<std::int64_t>& shape,
                                            const StoredFormat& format, const std::string& name);

}  // namespace bezel::quant
