#pragma once

namespace bezel::cli {

/// Starts the command again, once, in an environment in which OpenMP threads spin for microseconds before they sleep,
/// and on a machine with several memory nodes stay at theirs (io::node_binding): the OpenMP runtime reads it while the
/// program is loaded. Returns where nothing is to change (the user decided how
/// threads wait, by OMP_WAIT_POLICY, GOMP_SPINCOUNT, KMP_BLOCKTIME or KMP_LIBRARY, or the environment is already this
/// one) or the system refuses; then threads wait as the runtime's default has it. `environment` ends with nullptr.
/// Needs nothing of the C library that its constructors set up.
void restart_with_bounded_spin(char* const* argv, char* const* environment);

}  // namespace bezel::cli
