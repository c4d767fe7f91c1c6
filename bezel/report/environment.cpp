#include "bezel/report/environment.h"

#include <fstream>
#include <thread>

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <sys/utsname.h>
#include <torch/version.h>
#include <unistd.h>

#include "bezel/report/html_text.h"

namespace bezel::report {
namespace {

// The value of the first line "name : value" of a file; "" where there is none.
std::string first_value(const char* path, const std::string& name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const auto colon = line.find(':');
    if (colon == std::string::npos || line.compare(0, name.size(), name) != 0) continue;
    const auto begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

std::string memory() {
  const double bytes = static_cast<double>(::sysconf(_SC_PHYS_PAGES)) * static_cast<double>(::sysconf(_SC_PAGESIZE));
  return bytes > 0 ? memory_text(bytes) : "";
}

std::string system_name() {
  utsname name{};
  return ::uname(&name) == 0 ? std::string(name.sysname) + " " + name.release + " " + name.machine : "";
}

}  // namespace

std::vector<Setting> describe_environment() {
  std::vector<Setting> all = {{"LibTorch", TORCH_VERSION, false},
                              {"processor", first_value("/proc/cpuinfo", "model name"), false},
                              {"instructions", at::get_cpu_capability(), false},
                              {"cores", std::to_string(std::thread::hardware_concurrency()), false},
                              {"threads", std::to_string(at::get_num_threads()), false},
                              {"memory", memory(), false},
                              {"system", system_name(), false}};
  std::erase_if(all, [](const Setting& item) { return item.value.empty(); });
  return all;
}

}  // namespace bezel::report
