#pragma once

#include "bezel/quant/weight.h"

namespace bezel::quant {

/// Moves a dense matrix of some size whose pages belong to a file into memory that is read faster, and gives those
/// pages back: worth it where every token reads all of it. Nothing happens to codes and to any other matrix. Not while
/// another thread uses the weight.
void keep_at_hand(const Weight& weight);

}  // namespace bezel::quant
