#include "bezel/report/processes.h"

#include <algorithm>
#include <chrono>
#include <limits>

#include <ATen/Parallel.h>
#include <sched.h>

#include "bezel/report/machine.h"
#include "bezel/train/rank_setup.h"

namespace bezel::report {
namespace {

using io::Json;

std::int64_t usable_cores() {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  return ::sched_getaffinity(0, sizeof cores, &cores) == 0 ? CPU_COUNT(&cores) : 0;
}

}  // namespace

std::vector<RankMachine> rank_machines(train::ProcessGroup& group) {
  train::choose_threads({}, group);
  const Json here = machine();
  const Json mine = to_json({.host = group.host(group.rank()),
                             .cores = usable_cores(),
                             .threads = at::get_num_threads(),
                             .memory_bytes = here["memory_bytes"].get<std::int64_t>(),
                             .available_bytes = here["available_bytes"].get<std::int64_t>()});
  std::vector<RankMachine> machines;
  for (const std::string& text : group.gather(mine.dump())) {
    const Json json = Json::parse(text);
    machines.push_back({.host = json["host"],
                        .cores = json["cores"],
                        .threads = json["threads"],
                        .memory_bytes = json["memory_bytes"],
                        .available_bytes = json["available_bytes"]});
  }
  return machines;
}

double sum_seconds(train::ProcessGroup& group, std::size_t count) {
  constexpr int kRepeats = 4;
  std::vector<float> values(count, 1.0f);
  double fastest = std::numeric_limits<double>::infinity();
  for (int i = 0; i < kRepeats; ++i) {
    group.barrier();
    const auto start = std::chrono::steady_clock::now();
    group.sum(values.data(), values.size());
    fastest = std::min(fastest, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    std::ranges::fill(values, 1.0f);
  }
  return fastest;
}

Json to_json(const RankMachine& machine) {
  return {{"host", machine.host},
          {"cores", machine.cores},
          {"threads", machine.threads},
          {"memory_bytes", machine.memory_bytes},
          {"available_bytes", machine.available_bytes}};
}

}  // namespace bezel::report
