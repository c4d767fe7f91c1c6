#pragma once

#include "bezel/io/json.h"

namespace bezel::cli {

/// Parts of what `bezel inspect` prints of a checkpoint, from report::inspect()'s JSON.
void print_tree(const io::Json& tree);
void print_clip_layers(const io::Json& layers);
void print_targets(const io::Json& targets);
void print_training_memory(const io::Json& memory);
/// What --target-modules selects.
void print_selected(const io::Json& selected);

}  // namespace bezel::cli
