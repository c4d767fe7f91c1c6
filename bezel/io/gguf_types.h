#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace bezel::io {

/// How the values of a tensor are stored in a GGUF file; numbers are those of the file. Others are refused by name.
enum class GgufType : std::uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kIQ4_NL = 20,
  kIQ4_XS = 23,
  kBF16 = 30,
  kMXFP4 = 39,
};

/// What is known of a type: values come in blocks along a row.
struct GgufTypeInfo {
  GgufType type;
  std::string_view name;            ///< as llama.cpp spells it, such as "Q4_K"
  std::int64_t block_elements = 1;  ///< values of a block
  std::int64_t block_bytes = 1;     ///< bytes that it takes
};

const GgufTypeInfo& gguf_type_info(GgufType type);
/// The type that a file calls `number`, or nothing for one that is not read.
std::optional<GgufType> gguf_type(std::uint32_t number);
/// The name of type `number` in llama.cpp, or "" for a number that means nothing there.
std::string_view gguf_type_name(std::uint32_t number);
/// Whether a type packs values into blocks, rather than keeping each as a floating number.
bool is_packed(GgufType type);

}  // namespace bezel::io
