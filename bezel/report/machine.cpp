#include "bezel/report/machine.h"

#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <sys/utsname.h>
#include <torch/cuda.h>
#include <torch/version.h>

#include "bezel/kernels/describe_products.h"
#include "bezel/train/memory.h"

namespace bezel::report {
namespace {

using io::Json;

// The value behind "<key>…:" in a file of /proc.
std::string proc_value(const char* path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(':');
    if (!line.starts_with(key) || colon == std::string::npos) continue;
    const std::size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

Json instruction_sets() {
  std::istringstream flags(proc_value("/proc/cpuinfo", "flags"));
  Json found = Json::array();
  for (std::string flag; flags >> flag;)
    for (const char* known : {"avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16",
                              "amx_int8", "avx_vnni"})
      if (flag == known) found.push_back(flag);
  return found;
}

std::string system_text() {
  utsname name{};
  if (::uname(&name) != 0) return "";
  return std::string(name.sysname) + " " + name.release + " " + name.machine;
}

std::int64_t memory_bytes() {
  std::istringstream text(proc_value("/proc/meminfo", "MemTotal"));
  std::int64_t kib = 0;
  text >> kib;
  return kib * 1024;
}

}  // namespace

Json machine() {
  std::error_code error;
  const auto disk = std::filesystem::space(".", error);
  return {{"system", system_text()},
          {"cpu", proc_value("/proc/cpuinfo", "model name")},
          {"cores", std::thread::hardware_concurrency()},
          {"instruction_sets", instruction_sets()},
          {"memory_bytes", memory_bytes()},
          {"available_bytes", train::available_memory_bytes()},
          {"disk_free_bytes", error ? 0 : static_cast<std::int64_t>(disk.available)},
          {"libtorch", TORCH_VERSION},
          {"cpu_capability", at::get_cpu_capability()},
          {"products", kernels::describe_products()},
          {"threads", at::get_num_threads()},
          {"cuda_devices", torch::cuda::is_available() ? torch::cuda::device_count() : 0}};
}

}  // namespace bezel::report
