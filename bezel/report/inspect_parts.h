#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "bezel/gemma4/model.h"
#include "bezel/gemma4/source.h"
#include "bezel/io/json.h"
#include "bezel/lora/config.h"

/// Parts of what inspect() says of a checkpoint.
namespace bezel::report {

/// Tensors by canonical name.
using StoredTensors = std::map<std::string, gemma4::SourceTensor>;

/// The tower of a module or tensor: "language", "vision", "audio" or "projectors".
std::string tower_name_of(std::string_view canonical);

std::int64_t element_count(const std::vector<std::int64_t>& shape);

/// Numbers in order as text: "0-3, 5".
std::string ranges_text(const std::set<std::int64_t>& numbers);

/// {tower: [{name, layers, count, storage, shape, parameters, bytes}, …]}: tensors that differ in the number of their
/// layer only are one row, `name` with `*` for it and `layers` in words ("0-3, 5"); clip bounds are one row a tower.
io::Json tree_json(const StoredTensors& tensors);

/// How many bounds there are, their ranges, those that are no numbers, and `layers`: the four bounds of each layer,
/// null where infinite or missing.
io::Json clip_json(const StoredTensors& tensors, std::size_t missing_bounds);

/// {target_modules: {tower: number of layers}} for every name that selects something, "default" and "all-linear".
io::Json targets_json(gemma4::Model& model);

/// {tower: [module, …]} that a target_modules selects. Throws Error (kConfig) when it is no layer of any tower.
io::Json selected_json(gemma4::Model& model, const lora::ModulePattern& pattern);

/// What training takes in dense, int8 and nf4, or as it is stored where that is quantized: in bfloat16, LoRA of rank 16
/// on the decoder, one text of 2,048 tokens. `model` is in bfloat16.
io::Json training_memory_json(gemma4::Model& model, const StoredTensors& tensors);

}  // namespace bezel::report
