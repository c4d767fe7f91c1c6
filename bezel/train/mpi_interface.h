#pragma once

#include <cstddef>
#include <cstdint>

/// What libbezel_mpi.so, built against one MPI, offers to the command, which knows none.
extern "C" {

/// Size of a buffer for an error message or a host's name.
enum { kBezelMpiText = 1024 };

/// All functions but fail() are called from one thread, in the same order on every rank. A non-zero result is an error,
/// explained in `text`.
struct BezelMpi {
  /// Joins the other processes. `version` (kBezelMpiText bytes) gets the MPI's name.
  int (*start)(int* rank, int* size, char* version, char* text);
  /// Host of `rank`; valid until finish().
  const char* (*host)(int rank);
  /// Sums `count` values over the ranks, in their order: the same bits everywhere.
  void (*sum)(float* values, size_t count);
  /// The same for bfloat16; what rounding a sum left out is added to `error` of the rank that made it.
  void (*sum_bfloat16)(uint16_t* values, size_t count, float* error);
  /// Every rank's `size` bytes one after the other, with their sizes; both valid until the next call.
  void (*gather)(const char* bytes, size_t size, const char** all, const size_t** sizes);
  void (*barrier)();
  /// Seconds spent in waiting for other ranks, and in moving data.
  void (*times)(double* waited, double* transferred);
  /// Ends all processes with `code`. `message` is printed once, by rank 0, with the rank and host that say it, also
  /// when several ranks fail. Does not return. From any thread.
  void (*fail)(int code, const char* message);
  /// Waits for all ranks, then leaves MPI.
  void (*finish)();
};

/// Null when the library is of another version than `abi`.
const BezelMpi* bezel_mpi(int abi);
}

inline constexpr int kBezelMpiAbi = 2;
