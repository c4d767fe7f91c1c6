#include "bezel/report/environment.h"

#include "bezel/report/html_text.h"
#include "bezel/report/machine.h"

namespace bezel::report {

std::vector<Setting> describe_environment() {
  const io::Json here = machine();
  const auto text = [&](const char* key) { return here[key].get<std::string>(); };
  const auto count = [&](const char* key) { return std::to_string(here[key].get<std::int64_t>()); };
  const double memory_bytes = here["memory_bytes"].get<double>();
  std::vector<Setting> all = {{"LibTorch", text("libtorch"), false},
                              {"processor", text("cpu"), false},
                              {"instructions", text("cpu_capability"), false},
                              {"products", text("products"), false},
                              {"cores", count("cores"), false},
                              {"threads", count("threads"), false},
                              {"memory", memory_bytes > 0 ? memory_text(memory_bytes) : "", false},
                              {"system", text("system"), false}};
  std::erase_if(all, [](const Setting& item) { return item.value.empty(); });
  return all;
}

}  // namespace bezel::report
