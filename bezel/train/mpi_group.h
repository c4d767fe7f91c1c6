#pragma once

#include <memory>
#include <string>

#include "bezel/train/process_group.h"

namespace bezel::train {

/// How this process was started, by the environment: what started it ("mpirun", "srun"; "" when by itself) and how many
/// beside it.
struct Launch {
  std::string by;
  std::int64_t size = 1;
};
Launch find_launch();

/// The processes of an MPI job, through libbezel_mpi.so.
class MpiGroup : public ProcessGroup {
 public:
  /// Ends all processes with `code`; `message` is printed once. Does not return.
  [[noreturn]] virtual void fail(int code, const std::string& message) = 0;
  /// Waits for all ranks and leaves MPI; nothing may be called afterwards.
  virtual void finish() = 0;
  /// Of the MPI.
  virtual const std::string& version() const = 0;
};

/// Loads the library, from beside the executable, ../lib/bezel or the loader's path, and joins the others of `launch`.
/// Throws Error (kConfig) when it is not there or finds another number of ranks.
std::unique_ptr<MpiGroup> join_mpi(const Launch& launch);

}  // namespace bezel::train
