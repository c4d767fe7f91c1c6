#pragma once

#include <string>

#include <CLI/CLI.hpp>

#include "bezel/gemma4/model.h"

namespace bezel::cli {

/// Adds `--quantize-embeddings`, the config key quantize_embeddings, which sets `in_int8`.
inline void add_embeddings_option(CLI::App& command, bool& in_int8) {
  command
      .add_option_function<std::string>(
          "--quantize-embeddings", [&in_int8](const std::string& type) { in_int8 = type == "int8"; },
          "int8: the token embeddings, and the head tied to them, in 8 bits")
      ->check(CLI::IsMember({"none", "int8"}))
      ->default_str("none");
}

/// Whether the embeddings that `--quantize-embeddings int8` asks for are there, once `path` is loaded with it. Throws
/// Error (kConfig) where the file's own codes stay in their place; says on stderr where the head is a matrix apart.
void check_embeddings_in_int8(const gemma4::Model& model, const std::string& path);

/// Says on stderr that an adapter's own head, trained whole, is multiplied in place of the codes.
void warn_of_whole_head(const gemma4::Model& model, const std::string& adapter);

}  // namespace bezel::cli
