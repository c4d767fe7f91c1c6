#include "bezel/io/foreign_name.h"

#include <algorithm>
#include <array>
#include <utility>

#include "bezel/io/key_map.h"

namespace bezel::io {
namespace {

using Advice = std::pair<std::string_view, std::string_view>;  // a dotted part of a name, what it means

constexpr std::string_view kMergeFirst =
    "a model that was saved with an adapter around its layers; save `model.merge_and_unload()` of PEFT, or the base "
    "and the adapter apart";

constexpr std::string_view kOtherCodes =
    "codes of GPTQ or AWQ, which are not read; take the checkpoint in bfloat16 that it was made from";

constexpr std::array<Advice, 12> kWrappers{
    {{"_orig_mod",
      "a model that was saved through torch.compile; save `model._orig_mod`, or take the part out of the names"},
     {"_fsdp_wrapped_module", "a model that was saved from inside FSDP; save its full state dict"},
     {"_checkpoint_wrapped_module", "a model that was saved from inside a checkpoint wrapper; save the model itself"},
     {"base_layer", kMergeFirst},
     {"lora_A", kMergeFirst},
     {"lora_B", kMergeFirst},
     {"lora_embedding_A", kMergeFirst},
     {"lora_embedding_B", kMergeFirst},
     {"modules_to_save", kMergeFirst},
     {"original_module", kMergeFirst},
     {"qweight", kOtherCodes},
     {"qzeros", kOtherCodes}}};

// Names of modules that a released name can begin with, or a saved part of the model.
constexpr std::array<std::string_view, 12> kAnchors = {"model.language_model.",
                                                       "model.vision_tower.",
                                                       "model.audio_tower.",
                                                       "model.embed_vision.",
                                                       "model.embed_audio.",
                                                       "model.vision_embedder.",
                                                       "language_model.",
                                                       "vision_tower.",
                                                       "audio_tower.",
                                                       "model.layers.",
                                                       "layers.",
                                                       "embed_tokens."};

bool has_part(std::string_view name, std::string_view part) {
  for (std::size_t at = name.find(part); at != name.npos; at = name.find(part, at + 1)) {
    const std::size_t end = at + part.size();
    if ((at == 0 || name[at - 1] == '.') && (end == name.size() || name[end] == '.')) return true;
  }
  return false;
}

// Whether canonical_tensor_name put it under the model or the head.
bool is_understood(std::string_view canonical) {
  return canonical.starts_with("model.language_model.") || canonical.starts_with("model.vision_tower.") ||
         canonical.starts_with("model.audio_tower.") || canonical.starts_with("model.embed_") ||
         canonical.starts_with("lm_head.");
}

// The prefix before the first known name, with its dot; "" without a prefix.
std::string_view prefix_of(std::string_view name) {
  std::size_t first = name.npos;
  for (const std::string_view anchor : kAnchors)
    for (std::size_t at = name.find(anchor); at != name.npos; at = name.find(anchor, at + 1))
      if (at > 0 && name[at - 1] == '.') {
        first = std::min(first, at);
        break;
      }
  return first == name.npos ? "" : name.substr(0, first);
}

std::string advice_for_prefix(std::string_view prefix) {
  if (prefix == "base_model.model." || prefix == "base_model.") return std::string(kMergeFirst);
  if (prefix == "module.") return "a model that was saved from inside DataParallel or DeepSpeed; save `model.module`";
  return "transformers does not read it there either; take it out of the names";
}

}  // namespace

std::string foreign_name_advice(std::string_view stored) {
  for (const auto& [part, meaning] : kWrappers)
    if (has_part(stored, part)) return "'" + std::string(part) + "' in its name: " + std::string(meaning);
  if (is_understood(canonical_tensor_name(stored))) return "";
  if (stored.starts_with("language_model."))
    return "the prefix 'language_model.' is another tool's spelling, which transformers does not read; the released "
           "one "
           "is 'model.language_model.' without 'model.' behind it";
  const std::string_view prefix = prefix_of(stored);
  if (prefix.empty()) return "";
  return "the prefix '" + std::string(prefix) + "': " + advice_for_prefix(prefix);
}

}  // namespace bezel::io
