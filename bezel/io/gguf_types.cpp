#include "bezel/io/gguf_types.h"

#include <algorithm>
#include <array>
#include <stdexcept>

namespace bezel::io {
namespace {

constexpr std::array<GgufTypeInfo, 16> kTypes{{{GgufType::kF32, "F32", 1, 4},
                                               {GgufType::kF16, "F16", 1, 2},
                                               {GgufType::kQ4_0, "Q4_0", 32, 18},
                                               {GgufType::kQ4_1, "Q4_1", 32, 20},
                                               {GgufType::kQ5_0, "Q5_0", 32, 22},
                                               {GgufType::kQ5_1, "Q5_1", 32, 24},
                                               {GgufType::kQ8_0, "Q8_0", 32, 34},
                                               {GgufType::kQ2_K, "Q2_K", 256, 84},
                                               {GgufType::kQ3_K, "Q3_K", 256, 110},
                                               {GgufType::kQ4_K, "Q4_K", 256, 144},
                                               {GgufType::kQ5_K, "Q5_K", 256, 176},
                                               {GgufType::kQ6_K, "Q6_K", 256, 210},
                                               {GgufType::kIQ4_NL, "IQ4_NL", 32, 18},
                                               {GgufType::kIQ4_XS, "IQ4_XS", 256, 136},
                                               {GgufType::kBF16, "BF16", 1, 2},
                                               {GgufType::kMXFP4, "MXFP4", 32, 17}}};

// By number; those that were withdrawn have no name.
constexpr std::array<std::string_view, 42> kNames{
    "F32",   "F16",    "Q4_0",  "Q4_1", "",     "",        "Q5_0",   "Q5_1",    "Q8_0",  "Q8_1",   "Q2_K",
    "Q3_K",  "Q4_K",   "Q5_K",  "Q6_K", "Q8_K", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S",
    "IQ2_S", "IQ4_XS", "I8",    "I16",  "I32",  "I64",     "F64",    "IQ1_M",   "BF16",  "",       "",
    "",      "TQ1_0",  "TQ2_0", "",     "",     "",        "MXFP4",  "NVFP4",   "Q1_0"};

}  // namespace

const GgufTypeInfo& gguf_type_info(GgufType type) {
  const auto found = std::ranges::find(kTypes, type, &GgufTypeInfo::type);
  if (found == kTypes.end()) throw std::logic_error("a GGUF type that is not in the table");
  return *found;
}

std::optional<GgufType> gguf_type(std::uint32_t number) {
  const auto found = std::ranges::find(kTypes, static_cast<GgufType>(number), &GgufTypeInfo::type);
  return found == kTypes.end() ? std::nullopt : std::optional(found->type);
}

std::string_view gguf_type_name(std::uint32_t number) { return number < kNames.size() ? kNames[number] : ""; }

bool is_packed(GgufType type) { return gguf_type_info(type).block_elements > 1; }

}  // namespace bezel::io
