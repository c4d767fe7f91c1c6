#pragma once

#include <cstdint>
#include <string>

/// What the backend of the simulated device reports to its counters.
namespace bezel::simulated {

void count_launch(const std::string& name);
void count_synchronization(const std::string& name);
void count_to_device(std::int64_t bytes);
void count_to_host(std::int64_t bytes);

}  // namespace bezel::simulated
