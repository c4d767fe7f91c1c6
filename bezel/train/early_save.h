#pragma once

#include <functional>
#include <memory>

namespace bezel::train {

/// Saves a run as soon as it should stop, on a thread of its own, while an update is still being computed: mpirun kills
/// its processes a second after it has told them to end, whatever they are at.
class EarlySave {
 public:
  /// `should_stop` is asked many times a second; `save` is called at most once, between allow() and forbid(). Neither
  /// may throw.
  EarlySave(std::function<bool()> should_stop, std::function<void()> save);
  EarlySave(const EarlySave&) = delete;
  EarlySave& operator=(const EarlySave&) = delete;
  /// Waits for a save that has begun.
  ~EarlySave();

  /// From here on nothing changes what is saved.
  void allow();
  /// From here on it may change again: waits for a save that has begun.
  void forbid();

 private:
  struct Shared;
  std::unique_ptr<Shared> shared_;
};

}  // namespace bezel::train
