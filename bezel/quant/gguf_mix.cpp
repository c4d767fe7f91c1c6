#include "bezel/quant/gguf_mix.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <tuple>

namespace bezel::quant {
namespace {

using io::GgufType;

struct NamedMix {
  std::string_view name;
  GgufMix mix;
  GgufType type;  // of most matrices
};

constexpr std::array<NamedMix, 6> kMixes{{{"f32", GgufMix::kF32, GgufType::kF32},
                                          {"f16", GgufMix::kF16, GgufType::kF16},
                                          {"bf16", GgufMix::kBF16, GgufType::kBF16},
                                          {"q8_0", GgufMix::kQ8_0, GgufType::kQ8_0},
                                          {"q4_0", GgufMix::kQ4_0, GgufType::kQ4_0},
                                          {"q4_k_m", GgufMix::kQ4_K_M, GgufType::kQ4_K}}};

bool has(std::string_view name, std::string_view part) { return name.find(part) != std::string_view::npos; }

// The number in "blk.12.…"; -1 without one.
std::int64_t layer_of(std::string_view name) {
  constexpr std::string_view kLayers = "blk.";
  std::int64_t layer = -1;
  if (name.starts_with(kLayers)) std::from_chars(name.data() + kLayers.size(), name.data() + name.size(), layer);
  return layer;
}

// What only F32 is read of: vectors, norms, factors and the router.
bool is_wide(const GgufMatrix& matrix) {
  return matrix.shape.size() < 2 || !matrix.name.ends_with(".weight") || matrix.name.ends_with("_norm.weight") ||
         has(matrix.name, "ffn_gate_inp.weight");
}

GgufType with_whole_blocks(GgufType type, std::int64_t columns) {
  const auto fits = [&](GgufType one) { return columns % io::gguf_type_info(one).block_elements == 0; };
  if (fits(type)) return type;
  if (type == GgufType::kQ4_K) type = GgufType::kQ5_0;
  if (type == GgufType::kQ5_K) type = GgufType::kQ5_1;
  if (type == GgufType::kQ6_K) type = GgufType::kQ8_0;
  return fits(type) ? type : GgufType::kF16;
}

/// Walks the matrices of a file in order; some choices depend on how many of a kind came before.
class Chooser {
 public:
  Chooser(const NamedMix& mix, const std::vector<GgufMatrix>& matrices, std::int64_t num_layers,
          std::int64_t num_experts)
      : mix_(mix), num_layers_(num_layers), num_experts_(num_experts) {
    for (const GgufMatrix& matrix : matrices) {
      num_values_ += is_values(matrix.name);
      has_head_ |= matrix.name == "output.weight";
    }
  }

  GgufType choose(const GgufMatrix& matrix) {
    if (is_wide(matrix)) return GgufType::kF32;
    if (!io::is_packed(mix_.type)) return mix_.type;
    if (has(matrix.name, "per_layer_model_proj")) return matrix.plain;
    return with_whole_blocks(wanted(matrix), matrix.shape.back());
  }

 private:
  static bool is_values(std::string_view name) { return has(name, "attn_v.weight"); }

  // The first and the last eighth of the layers, and every third between them.
  static bool gets_more_bits(std::int64_t idx, std::int64_t count) {
    return idx < count / 8 || idx >= 7 * count / 8 || (idx - count / 8) % 3 == 2;
  }

  GgufType wanted(const GgufMatrix& matrix) {
    const bool k_mix = mix_.mix == GgufMix::kQ4_K_M, eight_experts = num_experts_ == 8;
    const std::string_view name = matrix.name;
    const bool table = name == "token_embd.weight" || name == "per_layer_token_embd.weight";
    if (name == "output.weight" || (table && !has_head_)) return of_head(matrix);
    if (is_values(name)) {
      const bool more = k_mix && gets_more_bits(values_seen_++, num_values_);
      return eight_experts ? GgufType::kQ8_0 : more ? GgufType::kQ6_K : mix_.type;
    }
    if (has(name, "attn_k.weight") && eight_experts) return GgufType::kQ8_0;
    if (has(name, "attn_output.weight") && eight_experts && k_mix) return GgufType::kQ5_K;
    if (has(name, "ffn_down")) {
      const std::int64_t idx = num_experts_ > 1 ? layer_of(name) : downs_seen_;
      ++downs_seen_;
      if (k_mix && gets_more_bits(idx, num_layers_)) return GgufType::kQ6_K;
    }
    return mix_.type;
  }

  GgufType of_head(const GgufMatrix& matrix) const {
    if (matrix.shape.back() % io::gguf_type_info(mix_.type).block_elements != 0) return GgufType::kQ8_0;
    return mix_.type == GgufType::kQ8_0 ? GgufType::kQ8_0 : GgufType::kQ6_K;
  }

  const NamedMix& mix_;
  std::int64_t num_layers_, num_experts_;
  std::int64_t num_values_ = 0, values_seen_ = 0, downs_seen_ = 0;
  bool has_head_ = false;
};

}  // namespace

std::optional<GgufMix> gguf_mix(std::string_view name) {
  const auto found = std::ranges::find(kMixes, name, &NamedMix::name);
  return found == kMixes.end() ? std::nullopt : std::optional(found->mix);
}

std::vector<std::string> gguf_mix_names() {
  std::vector<std::string> names;
  for (const NamedMix& mix : kMixes) names.emplace_back(mix.name);
  return names;
}

bool gguf_name_before(std::string_view a, std::string_view b) {
  return std::tuple(layer_of(a), a) < std::tuple(layer_of(b), b);
}

std::vector<GgufType> gguf_types(GgufMix mix, const std::vector<GgufMatrix>& matrices, std::int64_t num_layers,
                                 std::int64_t num_experts) {
  Chooser chooser(*std::ranges::find(kMixes, mix, &NamedMix::mix), matrices, num_layers, num_experts);
  std::vector<GgufType> types;
  for (const GgufMatrix& matrix : matrices) types.push_back(chooser.choose(matrix));
  return types;
}

}  // namespace bezel::quant
