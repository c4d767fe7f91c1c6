#pragma once

#include <string>
#include <vector>

#include "bezel/gemma4/model_files.h"
#include "bezel/io/json.h"

namespace bezel::report {

/// Loads adapter and checkpoint as a user would and looks at what the adapter does, as JSON:
///   towers.<name>: layers, parameters, ranks, zero_layers (B is all zeros), norms of A, B and of the update s · B A
///     over all its layers, relative_update (beside the norm of W), logit_change (largest change of a logit on
///     synthetic text, image and audio clip when only this tower's adapters are on)
///   elsewhere: [{tool, problems, notes}, …] as adapter_elsewhere says
///   notes: what was skipped or differs from what the files say
///   problems: why the adapter is useless: towers in which it does nothing, problems in `tools`
/// `tools`: which of "peft", "vllm" and "llama.cpp" have to take it whole. Throws Error where it does not load: keys
/// that match nothing, a wrong rank, a missing half of a pair; Error (kConfig) for an unknown tool.
io::Json verify_adapter(const gemma4::ModelFiles& model, const std::string& adapter,
                        const std::vector<std::string>& tools);

}  // namespace bezel::report
