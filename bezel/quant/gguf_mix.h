#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bezel/io/gguf_types.h"

namespace bezel::quant {

/// Which types the matrices of a GGUF file are stored as; numbers are those of the key general.file_type.
enum class GgufMix : std::uint32_t { kF32 = 0, kF16 = 1, kQ4_0 = 2, kQ8_0 = 7, kQ4_K_M = 15, kBF16 = 32 };

/// The mix of that name, such as "q4_k_m", or nothing.
std::optional<GgufMix> gguf_mix(std::string_view name);
/// Names of all mixes, as gguf_mix takes them.
std::vector<std::string> gguf_mix_names();

/// A tensor of a model for a GGUF file.
struct GgufMatrix {
  std::string name;  ///< in the file
  std::vector<std::int64_t> shape;
  io::GgufType plain = io::GgufType::kF32;  ///< the floating type it has where a mix of packed types leaves it alone
};

/// Whether `a` comes before `b` in a file: tensors without a layer, then layer by layer, by name.
bool gguf_name_before(std::string_view a, std::string_view b);

/// The type of each of `matrices`, which are all of a file's in the order of gguf_name_before, as llama.cpp's converter
/// and, for packed types, llama-quantize choose it: vectors, norms and routers in F32, projections of per-layer
/// embeddings left alone, embeddings and some layers in more bits, and rows that are no whole blocks in a type with
/// smaller ones or in F16. Reference: llama.cpp, conversion/base.py and src/llama-quant.cpp.
std::vector<io::GgufType> gguf_types(GgufMix mix, const std::vector<GgufMatrix>& matrices, std::int64_t num_layers,
                                     std::int64_t num_experts);

}  // namespace bezel::quant
