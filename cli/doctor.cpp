#include "bezel/report/doctor.h"

#include <cstdio>
#include <memory>

#include "bezel/report/machine.h"
#include "bezel/report/processes.h"
#include "bezel/train/device.h"
#include "cli/command.h"
#include "cli/processes.h"

namespace bezel::cli {
namespace {

using io::Json;

struct DoctorOptions {
  std::string device = "cpu";
  bool json = false;
};

void print_machine(const Json& machine) {
  const auto bytes = [&](const char* key) { return bytes_text(machine[key].get<double>()); };
  std::printf("system     %s\n", machine["system"].get<std::string>().c_str());
  std::printf("cpu        %s, %lld cores, %lld threads used\n", machine["cpu"].get<std::string>().c_str(),
              machine["cores"].get<long long>(), machine["threads"].get<long long>());
  std::string sets;
  for (const Json& name : machine["instruction_sets"]) sets += " " + name.get<std::string>();
  std::printf("          %s; LibTorch uses %s\n", sets.c_str(), machine["cpu_capability"].get<std::string>().c_str());
  std::printf("products   of bfloat16 matrices by %s\n", machine["products"].get<std::string>().c_str());
  std::printf("memory     %s, %s free; disk here: %s free\n", bytes("memory_bytes").c_str(),
              bytes("available_bytes").c_str(), bytes("disk_free_bytes").c_str());
  std::printf("LibTorch   %s, %lld CUDA device(s)\n\n", machine["libtorch"].get<std::string>().c_str(),
              machine["cuda_devices"].get<long long>());
}

// Processes that were started together, and how fast they sum an adapter's gradients.
Json show_processes(train::ProcessGroup& group, bool prints) {
  constexpr std::size_t kMebi = std::size_t{1} << 20;
  Json report{{"mpi", mpi_version()}, {"ranks", Json::array()}, {"sums", Json::array()}};
  const std::vector<report::RankMachine> machines = report::rank_machines(group);
  if (prints) std::printf("processes  %zu, joined by %s\n", machines.size(), mpi_version().c_str());
  for (std::size_t rank = 0; rank < machines.size(); ++rank) {
    const report::RankMachine& machine = machines[rank];
    report["ranks"].push_back(report::to_json(machine));
    if (!prints) continue;
    std::printf("  rank %-3zu %s: %lld core(s), %lld thread(s), %s of memory, %s free\n", rank, machine.host.c_str(),
                static_cast<long long>(machine.cores), static_cast<long long>(machine.threads),
                bytes_text(static_cast<double>(machine.memory_bytes)).c_str(),
                bytes_text(static_cast<double>(machine.available_bytes)).c_str());
  }
  for (const std::size_t mebibytes : {1, 16, 64}) {
    const double seconds = report::sum_seconds(group, mebibytes * kMebi / sizeof(float));
    report["sums"].push_back({{"bytes", mebibytes * kMebi}, {"seconds", seconds}});
    if (prints) std::printf("  a sum of %zu MiB takes %.1f ms\n", mebibytes, 1e3 * seconds);
  }
  if (prints) std::printf("\n");
  return report;
}

int doctor(const DoctorOptions& options) {
  train::ProcessGroup& group = join_processes();
  const bool prints = group.is_first() && !options.json;
  const torch::Device device = train::choose_device(options.device);
  Json report{{"machine", report::machine()}, {"device", device.str()}, {"checks", Json::array()}};
  if (prints) {
    std::printf("%s\n", version_text().c_str());
    print_machine(report["machine"]);
  }
  if (group.size() > 1) report["processes"] = show_processes(group, prints);
  bool good = true;
  report::doctor(device, [&](const report::DoctorCheck& check) {
    good = good && check.good();
    report["checks"].push_back(
        {{"name", check.name}, {"error", check.error}, {"limit", check.limit}, {"good", check.good()}});
    if (!prints) return;
    std::printf("%-5s %s: %.1e, at most %.0e\n", check.good() ? "ok" : "WRONG", check.name.c_str(), check.error,
                check.limit);
    std::fflush(stdout);  // a device may take the whole program with it
  });
  good = !train::any_rank(group, !good);
  report["good"] = good;
  if (!group.is_first()) return good ? 0 : 1;
  if (options.json)
    std::printf("%s\n", report.dump(2).c_str());
  else
    std::printf("\n%s\n", good ? "Bezel computes right here."
                               : "Bezel does not compute right here. Please send us this whole output.");
  return good ? 0 : 1;
}

}  // namespace

void add_doctor(CLI::App& app, int& status) {
  auto options = std::make_shared<DoctorOptions>();
  CLI::App* command = app.add_subcommand("doctor", "Shows the hardware and runs a numerical self-test");
  command->add_option("--device", options->device, "cpu, cuda, cuda:N or auto")->capture_default_str();
  command->add_flag("--json", options->json, "as JSON");
  command->footer("Exit code 1 when a comparison fails.");
  command->callback([options, &status] { status = doctor(*options); });
}

}  // namespace bezel::cli
