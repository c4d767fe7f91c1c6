#include "bezel/gemma4/relatives.h"

#include <algorithm>
#include <string_view>

#include "bezel/error.h"

namespace bezel::gemma4 {
namespace {

struct Relative {
  std::string_view types, what;  // beginnings of model_type, separated by blanks
};
// Models of the family that are not Gemma 4, by what a user should know of them.
constexpr Relative kRelatives[] = {
    {"gemma4_assistant gemma4_unified_assistant",
     "a drafter for speculative decoding, not the model that it drafts for; name that model"},
    {"diffusion_gemma",
     "DiffusionGemma, which denoises blocks of tokens in place of writing one after the other, and learns by another "
     "loss; Bezel trains the Gemma 4 that it was made from"},
    {"embedding_gemma2",
     "EmbeddingGemma 2, which makes vectors of texts and learns by comparing them, not by next tokens"},
    {"gemma3n", "Gemma 3n (E2B and E4B of 2025), whose layers are others than Gemma 4's; take Gemma 4 E2B or E4B"},
    {"gemma3_vision gemma3 shieldgemma2",
     "Gemma 3 with images (4B, 12B, 27B); Bezel reads Gemma 3's text models (gemma3_text: 270M, 1B) and Gemma 4"},
    {"paligemma t5gemma t5gemma2 recurrent_gemma vaultgemma gemma2 gemma",
     "an earlier or another model of the family; Bezel reads Gemma 4 and Gemma 3's text models"},
};

bool begins_with_one(std::string_view type, std::string_view types) {
  for (std::size_t begin = 0; begin < types.size();) {
    const std::size_t end = std::min(types.find(' ', begin), types.size());
    const std::string_view name = types.substr(begin, end - begin);
    // "gemma4" is no "gemma", but "gemma3n_text" is a "gemma3n".
    if (type == name || (type.starts_with(name) && type[name.size()] == '_')) return true;
    begin = end + 1;
  }
  return false;
}

}  // namespace

void refuse_relative(const std::string& model_type, const std::string& source) {
  const auto* const found =
      std::ranges::find_if(kRelatives, [&](const Relative& one) { return begins_with_one(model_type, one.types); });
  if (found != std::end(kRelatives))
    throw Error(source, ": model_type '", model_type, "' is not supported: it is ", found->what);
}

}  // namespace bezel::gemma4
