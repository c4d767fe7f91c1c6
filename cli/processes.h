#pragma once

#include <string>

#include "bezel/train/process_group.h"

/// The processes that mpirun or srun started together with this one.
namespace bezel::cli {

/// Joins them, once; a process that was started by itself is alone. Throws Error (kConfig).
train::ProcessGroup& join_processes();

/// Of the MPI that joined them; "" for a process alone.
std::string mpi_version();

/// Where processes are joined, ends all of them with `code` and prints `message` once; does not return then.
void end_processes(int code, const std::string& message);

/// Waits until all are here, and leaves MPI.
void leave_processes();

/// Throws Error (kConfig) when several processes were started with a subcommand that knows nothing of others.
void check_runs_alone(const std::string& subcommand);

}  // namespace bezel::cli
