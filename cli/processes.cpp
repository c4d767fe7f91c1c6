#include "cli/processes.h"

#include <chrono>
#include <cstdlib>
#include <memory>
#include <thread>

#include "bezel/error.h"
#include "bezel/train/mpi_group.h"

namespace bezel::cli {
namespace {

// Lives as long as the process: an exception must not leave MPI on its way, where other ranks would be waited for.
train::MpiGroup* joined = nullptr;

// What fails alike on every rank is to be printed by one; its end ends the others.
void let_first_rank_speak() {
  for (const char* variable : {"OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID"})
    if (const char* const rank = std::getenv(variable))
      if (std::strtol(rank, nullptr, 10) != 0) std::this_thread::sleep_for(std::chrono::seconds(3));
}

}  // namespace

train::ProcessGroup& join_processes() {
  if (joined != nullptr) return *joined;
  const train::Launch launch = train::find_launch();
  if (launch.size <= 1) return train::single_process();
  try {
    joined = train::join_mpi(launch).release();
  } catch (const Error&) {
    let_first_rank_speak();
    throw;
  }
  return *joined;
}

std::string mpi_version() { return joined == nullptr ? "" : joined->version(); }

void end_processes(int code, const std::string& message) {
  if (joined != nullptr) joined->fail(code, message);
}

void leave_processes() {
  if (joined != nullptr) joined->finish();
  joined = nullptr;
}

void check_runs_alone(const std::string& subcommand) {
  const train::Launch launch = train::find_launch();
  if (launch.size <= 1 || subcommand == "train" || subcommand == "doctor" || subcommand.starts_with("-")) return;
  let_first_rank_speak();
  throw Error(ErrorKind::kConfig, launch.by, " started ", launch.size, " processes of `bezel ", subcommand,
              "`, which each would do the same; only train and doctor take part in several, run this one without ",
              launch.by);
}

}  // namespace bezel::cli
