#pragma once

#include <string>

#include "bezel/train/process_group.h"
#include "bezel/train/reduction.h"

/// Residuals in a checkpoint, as "RANK.NAME". All are collective.
namespace bezel::train {

/// The file in a checkpoint's folder.
inline constexpr const char* kResidualFile = "residuals.safetensors";

/// Those of all ranks, on rank 0; nothing elsewhere, and where gradients travel in float32.
NamedTensors gather_residuals(ProcessGroup& group, const Residuals& residuals);

/// Replaces `residuals` by what the checkpoint in `folder` has of this rank. Of another number of ranks rank 0 gets the
/// sum of all, so that nothing is lost; where the checkpoint has none, they stay zero. Throws Error naming the tensor
/// when one is missing or of another shape.
void restore_residuals(const std::string& folder, ProcessGroup& group, Residuals& residuals);

}  // namespace bezel::train
