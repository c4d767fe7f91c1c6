#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <torch/types.h>

#include "bezel/io/gguf.h"
#include "bezel/io/safetensors.h"

namespace bezel::io {

/// Throws Error for a type that the other side lacks.
torch::ScalarType to_scalar_type(DType dtype);
DType to_dtype(torch::ScalarType type);

/// A CPU tensor over the mapped bytes of `info`, which belongs to `file`; the tensor keeps the map alive.
/// The memory is read-only: writing to the tensor in place crashes, so clone() it before changing it. Tensors that are
/// not aligned to their element size, and BOOL tensors, are copied.
torch::Tensor map_tensor(const std::shared_ptr<const SafetensorsFile>& file, const TensorInfo& info);

/// The same for a tensor of a GGUF file: floating ones in their shape, packed ones as uint8 [rows, bytes of a row].
torch::Tensor map_tensor(const std::shared_ptr<const GgufFile>& file, const GgufTensor& info);

/// Whether map_tensor made it, so that its memory is a file's pages.
bool is_mapped(const torch::Tensor& tensor);

/// Evicts the pages of a tensor that map_tensor mapped, those of its rows from `first_row` on. Does nothing for any
/// other tensor.
void evict(const torch::Tensor& tensor, std::int64_t first_row = 0);

/// Rows `index` (int64 [N]) of a tensor. Those of one that map_tensor mapped are read from its file: touching a mapped
/// row brings a neighborhood of up to 2 MiB into memory with it. Throws Error (kIo) when the file has become shorter.
torch::Tensor read_rows(const torch::Tensor& tensor, const torch::Tensor& index);

/// A copy of a CPU tensor in memory of its own, in large pages where the system has them: what is read from end to end
/// over and over passes twice as fast as through the small pages of a file. Throws Error (kMemory) when there is none.
torch::Tensor in_large_pages(const torch::Tensor& tensor);

/// Puts a tensor from any device into a file that is being streamed.
void put_tensor(TensorSink& sink, const std::string& name, const torch::Tensor& tensor);

/// Every tensor of a file, by name, as map_tensor gives them.
std::map<std::string, torch::Tensor> load_safetensors(const std::string& path);

/// Writes tensors from any device, wholly or not at all; see write_safetensors.
void save_safetensors(const std::string& path, const std::vector<std::pair<std::string, torch::Tensor>>& tensors,
                      const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

}  // namespace bezel::io
