#pragma once

#include <functional>

namespace bezel::gemma4 {

/// Parts of a forward pass, in the order in which they run. Each reads its own weights and no others.
enum class Phase { kVision, kAudio, kDecoder, kHead };

/// Called when a phase has ended. Whoever runs the phases calls it; the model does not know of it.
using PhaseObserver = std::function<void(Phase)>;

}  // namespace bezel::gemma4
