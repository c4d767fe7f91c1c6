#pragma once

#include <string>

namespace bezel::cli {

/// A GGUF file to write of a model.
struct GgufOut {
  std::string model;    ///< checkpoint folder or GGUF file
  std::string mmproj;   ///< see gemma4::ModelFiles
  std::string adapter;  ///< PEFT adapter folder to merge; "": no adapter
  std::string type;     ///< a name of quant::gguf_mix; "": as it is stored
  std::string output;
};

/// Names that `type` may have, for a flag's help.
std::string gguf_type_help();

/// Writes it and prints what was done. Throws Error (kConfig) when the output is there already or is not called .gguf.
void write_gguf_model(const GgufOut& out);

}  // namespace bezel::cli
