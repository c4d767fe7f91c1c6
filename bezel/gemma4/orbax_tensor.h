#pragma once

#include <memory>
#include <vector>

#include "bezel/gemma4/orbax_map.h"
#include "bezel/io/checkpoint_writer.h"
#include "bezel/io/zarr.h"

namespace bezel::gemma4 {

/// Elements of `from` as elements of `to`, each float32 or bfloat16; to bfloat16 rounds to nearest even.
std::vector<std::byte> convert_elements(std::span<const std::byte> bytes, io::DType from, io::DType to);

/// The tensors that one array holds, as a part of a checkpoint of dtype `dtype`, under `stored` names, one for each.
/// An array that is one tensor in its own order is written in pieces, any other is held in memory as a whole.
io::CheckpointPart orbax_part(std::shared_ptr<const io::ZarrArray> array, std::vector<OrbaxTensor> tensors,
                              const std::vector<std::string>& stored, io::DType dtype);

}  // namespace bezel::gemma4
