#pragma once

#include <csignal>

namespace bezel::test {

/// While it lives, instructions of tile units that this processor does not know are run by TileModel, thread by thread:
/// each raises SIGILL, whose handler decodes and runs it. So compiled code for AMX is tested where there is none. A
/// fault of the model ends the process with its message.
class TrappedTiles {
 public:
  /// Whether that can be done here: Linux on x86-64.
  static bool works();

  TrappedTiles();
  ~TrappedTiles();
  TrappedTiles(const TrappedTiles&) = delete;
  TrappedTiles& operator=(const TrappedTiles&) = delete;

  /// Instructions that this thread has run so far.
  static long count();

 private:
  struct sigaction before_ = {};
};

}  // namespace bezel::test
