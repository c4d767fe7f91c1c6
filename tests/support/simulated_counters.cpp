#include "support/simulated_counters.h"

#include <mutex>
#include <set>

#include <nlohmann/json.hpp>

#include "support/simulated_device.h"
#include "support/simulated_memory.h"

namespace bezel::simulated {
namespace {

struct Counters {
  std::mutex mutex;
  Counts counts;
};

Counters& counters() {
  static auto* const all = new Counters;
  return *all;
}

template <typename Change>
void change(Change make) {
  Counters& all = counters();
  const std::lock_guard lock(all.mutex);
  make(all.counts);
}

}  // namespace

void count_launch(const std::string& name) {
  change([&](Counts& counts) {
    ++counts.launches;
    ++counts.by_operator[name];
  });
}

void count_synchronization(const std::string& name) {
  change([&](Counts& counts) {
    ++counts.synchronizations;
    ++counts.waits[name];
  });
}

void count_to_device(std::int64_t bytes) {
  change([&](Counts& counts) {
    ++counts.host_to_device;
    counts.host_to_device_bytes += bytes;
  });
}

void count_to_host(std::int64_t bytes) {
  change([&](Counts& counts) {
    ++counts.device_to_host;
    counts.device_to_host_bytes += bytes;
  });
}

Counts counts() {
  Counters& all = counters();
  const std::lock_guard lock(all.mutex);
  return all.counts;
}

void reset_counts() {
  change([](Counts& counts) { counts = {}; });
  reset_peak();
}

void name_tensor(const torch::Tensor& tensor, const std::string& name) {
  static std::mutex mutex;
  static auto* const names = new std::set<std::string>;  // as long as the process: reports read them
  const std::lock_guard lock(mutex);
  name_block(tensor.storage().data(), names->insert(name).first->c_str(), /*overwrite=*/true);
}

}  // namespace bezel::simulated

const char* bezel_simulated_counts() {
  const bezel::simulated::Counts counts = bezel::simulated::counts();
  const bezel::simulated::MemoryUse memory = bezel::simulated::memory_use();
  thread_local std::string text;
  text = nlohmann::json{{"launches", counts.launches},
                        {"host_to_device", counts.host_to_device},
                        {"host_to_device_bytes", counts.host_to_device_bytes},
                        {"device_to_host", counts.device_to_host},
                        {"device_to_host_bytes", counts.device_to_host_bytes},
                        {"synchronizations", counts.synchronizations},
                        {"by_operator", counts.by_operator},
                        {"waits", counts.waits},
                        {"bytes", memory.bytes},
                        {"peak_bytes", memory.peak_bytes}}
             .dump();
  return text.c_str();
}

void bezel_simulated_reset() { bezel::simulated::reset_counts(); }
