#include <cstdio>
#include <exception>
#include <iostream>
#include <string>

#include "bezel/error.h"
#include "bezel/train/config.h"
#include "bezel/train/run_check.h"

// Reads lines "TOTAL {key: value, …}" from stdin; for each, prints the learning rates of a run of TOTAL updates with
// that config on one line, or the error.
int main() {
  using namespace bezel;
  try {
    for (std::string line; std::getline(std::cin, line);) {
      const std::size_t space = line.find(' ');
      const std::int64_t total = std::stoll(line.substr(0, space));
      try {
        const auto config = train::parse_train_config(line.substr(space + 1), "stdin", {}, false);
        train::check_learns(config, total);
        const train::Schedule schedule = train::make_schedule(config, total);
        for (std::int64_t step = 0; step < total; ++step) std::printf("%.17g ", schedule.rate(step));
        std::printf("\n");
      } catch (const Error& error) {
        std::printf("error %s\n", error.what());
      }
    }
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
