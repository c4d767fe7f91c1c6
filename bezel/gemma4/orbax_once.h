#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace bezel::gemma4 {

/// A checkpoint of Orbax that is converted once, for all runs over it.
struct OrbaxOnce {
  std::string model;      ///< the checkpoint's folder
  std::string tokenizer;  ///< see OrbaxOptions; its config.json counts where the shapes are of no released size
  std::string output;     ///< folder of the converted checkpoint, in bfloat16
};

/// Told before a long conversion begins: the bytes to write, and the arrays that are not used.
using OrbaxBegin = std::function<void(std::int64_t bytes, const std::vector<std::string>& unused)>;

/// Converts unless `output` was made of the same files before; returns whether it did. Where several processes ask at
/// once, the others wait for the first. `output` appears whole or not at all. Throws Error (kConfig) when `output` is
/// there and of something else, Error (kIo) when the disk has no room for it, and as plan_orbax and check_orbax_plan
/// do.
bool convert_orbax_once(const OrbaxOnce& wanted, const OrbaxBegin& on_begin);

}  // namespace bezel::gemma4
