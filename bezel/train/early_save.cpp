#include "bezel/train/early_save.h"

#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>
#include <utility>

namespace bezel::train {

struct EarlySave::Shared {
  std::function<bool()> should_stop;
  std::function<void()> save;
  std::mutex changing;  // held by the run's thread while what is saved may change
  bool is_held = true;  // known to that thread alone
  std::atomic<bool> ends{false};
  std::thread thread;

  void watch() {
    while (!ends) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      if (!should_stop()) continue;
      const std::lock_guard lock(changing);
      if (!ends) save();
      return;
    }
  }
};

EarlySave::EarlySave(std::function<bool()> should_stop, std::function<void()> save)
    : shared_(std::make_unique<Shared>()) {
  shared_->should_stop = std::move(should_stop);
  shared_->save = std::move(save);
  shared_->changing.lock();
  shared_->thread = std::thread([shared = shared_.get()] { shared->watch(); });
}

EarlySave::~EarlySave() {
  shared_->ends = true;
  allow();
  shared_->thread.join();
}

void EarlySave::allow() {
  if (std::exchange(shared_->is_held, false)) shared_->changing.unlock();
}

void EarlySave::forbid() {
  if (!std::exchange(shared_->is_held, true)) shared_->changing.lock();
}

}  // namespace bezel::train
