#pragma once

#include <string>

namespace bezel::cli {

/// A checkpoint of Orbax to write of a model.
struct OrbaxOut {
  std::string model;    ///< checkpoint folder
  std::string adapter;  ///< PEFT adapter folder to merge; "": no adapter
  std::string dtype;    ///< float32 or bfloat16; "": as it is stored
  std::string output;
};

/// Writes it and prints what was done. Throws Error (kConfig) when the output is there already.
void write_orbax_model(const OrbaxOut& out);

}  // namespace bezel::cli
