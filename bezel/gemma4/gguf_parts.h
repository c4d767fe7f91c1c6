#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bezel/gemma4/config.h"
#include "bezel/gemma4/source.h"
#include "bezel/quant/gguf_part.h"

namespace bezel::gemma4 {

/// Whether a tensor of that name is a bound of a clipped linear layer, which may be infinite.
inline bool is_clip_bound(std::string_view name) { return name.ends_with("_min") || name.ends_with("_max"); }

/// The name that a file has for a tensor of canonical name; nothing for one that goes into another file.
using GgufNames = std::function<std::optional<std::string>(std::string_view canonical)>;

/// The tensors of a checkpoint folder that `names` has a name for: dense ones, quantized ones, and the k and v of
/// layers that read those of others. Of the latter quantized ones are left out, and their stored names put into
/// `left_out`.
std::vector<quant::GgufPart> checkpoint_parts(Source& source, const ModelConfig& config, const GgufNames& names,
                                              std::vector<std::string>& left_out);

/// The floating mix that says how most elements of the matrices are stored.
quant::GgufMix usual_mix(const std::vector<quant::GgufPart>& parts);

}  // namespace bezel::gemma4
