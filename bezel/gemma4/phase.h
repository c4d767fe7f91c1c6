#pragma once

#include <functional>

#include "bezel/input/media_kind.h"

namespace bezel::gemma4 {

/// A part of a forward pass: each encoder whose media the batch has, then the decoder, then the output embedding. Each
/// reads its own weights and no others.
struct Phase {
  enum class Kind { kEncoder, kDecoder, kHead };

  Kind kind = Kind::kDecoder;
  input::MediaKind media{};  ///< of kEncoder

  static Phase encoder(input::MediaKind media) { return {Kind::kEncoder, media}; }
  static Phase decoder() { return {Kind::kDecoder}; }
  static Phase head() { return {Kind::kHead}; }
  friend bool operator==(const Phase&, const Phase&) = default;
};

/// Called when a phase has ended, for tasks outside the model, such as eviction.
using PhaseObserver = std::function<void(Phase)>;

}  // namespace bezel::gemma4
