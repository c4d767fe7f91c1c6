#pragma once

#include <string>

#include "bezel/io/json.h"
#include "bezel/lora/config.h"

namespace bezel::report {

/// What a checkpoint folder holds, as JSON: towers, layers, shapes, storage types and bytes, clip bounds, key layout,
/// how many layers LoRA can adapt, and every tensor that is left over, missing or of the wrong shape. Reads headers and
/// the clip bounds only. Throws Error when the folder is no Gemma 4 checkpoint at all.
io::Json inspect_checkpoint(const std::string& folder, const std::string& mmproj = "");

/// The same for a PEFT adapter folder: settings, layers and parameters by tower, ranks, incomplete pairs, matrices
/// saved beside LoRA, and features that Bezel lacks, by name.
io::Json inspect_adapter(const std::string& folder);

/// Either of the two: an adapter when the folder has an adapter_config.json. `mmproj`, here and in the others: see
/// gemma4::ModelFiles. A checkpoint of Orbax as inspect_orbax does, by `config`, which is for no other.
io::Json inspect(const std::string& folder, const std::string& mmproj = "", const std::string& config = "");

/// {tower: [module, …]}: the layers that `target_modules` would adapt in a checkpoint, each tower asked by itself.
/// Throws Error (kConfig) when it is no layer of any tower.
io::Json inspect_targets(const std::string& folder, const lora::ModulePattern& target_modules,
                         const std::string& mmproj = "");

/// Reads every value of a checkpoint or adapter and returns [{tensor, file, nan, inf}, …] for tensors that hold numbers
/// that are none; clip bounds may be infinite.
io::Json scan_values(const std::string& folder, const std::string& mmproj = "");

}  // namespace bezel::report
