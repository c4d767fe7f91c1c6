#pragma once

#include "bezel/gemma4/orbax_convert.h"

namespace bezel::gemma4 {

/// Compares the planned tensors with those that the planned config.json demands. Throws Error naming `source` and the
/// first tensor that is missing, has another shape or no place in the model. Clip bounds may be missing, as in
/// load_model.
void check_orbax_plan(const OrbaxPlan& plan, const std::string& source);

}  // namespace bezel::gemma4
