// libbezel_mpi.so: built against one MPI, loaded by the command when mpirun or srun started it.
#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include <mpi.h>
#include <signal.h>
#include <unistd.h>

#include "bezel/train/mpi_interface.h"

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using std::chrono::seconds;

enum Tag { kBeat = 1, kFailure = 2, kEnd = 3 };

constexpr seconds kBeatInterval(2);
constexpr milliseconds kPoll(50);
constexpr int kIoFailure = 4;
// Elements of a sum at a time: MPI counts in int, and buffers stay small.
constexpr std::size_t kSumBlock = std::size_t{1} << 24;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// After so long without a sign a rank counts as gone.
double silence_s() {
  const char* const text = std::getenv("BEZEL_HEARTBEAT_TIMEOUT");
  const double given = text == nullptr ? 0.0 : std::strtod(text, nullptr);
  return given > 0 ? given : 30.0;
}

struct Group {
  int rank = 0, size = 1;
  MPI_Comm work = MPI_COMM_NULL, control = MPI_COMM_NULL;
  std::vector<std::string> hosts;
  std::vector<pid_t> local;  // process ids, by rank; 0 for ranks of other hosts
  double waited_s = 0.0, transfer_s = 0.0;
  std::thread monitor;
  std::atomic<bool> ends{false}, failed{false};
  std::vector<char> gathered;
  std::vector<std::size_t> gathered_sizes;
};

// Of the process: MPI can be started once.
Group group;

std::string name_of(int rank) {
  return "rank " + std::to_string(rank) + " on host " + group.hosts[static_cast<std::size_t>(rank)];
}

// The first failure that is known here ends the run; later ones wait to be ended. mpirun only asks processes to end,
// which a run takes for a wish to save its work, and kills them much later: so all are told.
[[noreturn]] void end_all(int code, const std::string& message) {
  if (group.failed.exchange(true))
    for (;;) ::pause();
  std::fprintf(stderr, "bezel: %s\n", message.c_str());
  std::fflush(nullptr);
  static int told = 0;
  told = code;
  for (int rank = 0; rank < group.size; ++rank) {
    MPI_Request request;
    if (rank != group.rank) MPI_Isend(&told, 1, MPI_INT, rank, kEnd, group.control, &request);
  }
  std::this_thread::sleep_for(milliseconds(300));
  MPI_Abort(MPI_COMM_WORLD, code);
  std::_Exit(code);
}

/// The thread that tells others that this process is alive, and ends the run when another is not.
class Monitor {
 public:
  void run() {
    for (auto last = Clock::now(); !group.ends; last = Clock::now()) {
      std::this_thread::sleep_for(kPoll);
      // Whoever was stopped itself has heard of nobody.
      if (Clock::now() - last > 2 * kBeatInterval) std::ranges::fill(heard_, Clock::now());
      receive();
      if (Clock::now() - sent_ > kBeatInterval) {
        send_beats();
        check_local();
      }
      check_silence();
    }
    for (MPI_Request& request : requests_)
      if (request != MPI_REQUEST_NULL) MPI_Request_free(&request);
  }

 private:
  // Rank 0 watches all, and all watch rank 0.
  bool watches(int rank) const { return rank != group.rank && (group.rank == 0 || rank == 0); }

  void receive() {
    for (;;) {
      int has_message = 0;
      MPI_Status status;
      MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, group.control, &has_message, &status);
      if (has_message == 0) return;
      int bytes = 0;
      MPI_Get_count(&status, MPI_CHAR, &bytes);
      std::string text(static_cast<std::size_t>(bytes), '\0');
      MPI_Recv(text.data(), bytes, MPI_CHAR, status.MPI_SOURCE, status.MPI_TAG, group.control, MPI_STATUS_IGNORE);
      heard_[static_cast<std::size_t>(status.MPI_SOURCE)] = Clock::now();
      if (status.MPI_TAG == kEnd) {
        int code = 1;
        std::memcpy(&code, text.data(), std::min(sizeof code, text.size()));
        std::_Exit(code);
      }
      if (status.MPI_TAG != kFailure) continue;
      const std::size_t line = text.find('\n');
      end_all(std::atoi(text.c_str()), name_of(status.MPI_SOURCE) + ": " + text.substr(line + 1));
    }
  }

  void send_beats() {
    sent_ = Clock::now();
    for (int rank = 0; rank < group.size; ++rank) {
      if (!watches(rank)) continue;
      MPI_Request& request = requests_[static_cast<std::size_t>(rank)];
      int done = 1;
      if (request != MPI_REQUEST_NULL) MPI_Test(&request, &done, MPI_STATUS_IGNORE);
      if (done != 0) MPI_Isend(&beat_, 1, MPI_CHAR, rank, kBeat, group.control, &request);
    }
  }

  // A process of this host that is gone, as one that was killed: known sooner than by its silence.
  void check_local() {
    for (int rank = 0; rank < group.size; ++rank) {
      const pid_t process = group.local[static_cast<std::size_t>(rank)];
      if (rank == group.rank || process == 0 || ::kill(process, 0) == 0 || errno != ESRCH) continue;
      const std::string text = name_of(rank) + " has ended. Start the run again with --resume-from-checkpoint auto";
      // Not at once: the run may be ending. Rank 0 speaks first, unless it is on another host or the one that is gone.
      if (++gone_ > 1 + 2 * group.rank) end_all(kIoFailure, text);
    }
  }

  void check_silence() {
    for (int rank = 0; rank < group.size; ++rank) {
      // Rank 0 speaks first, then the others by rank: one message is enough.
      const double limit_s = silence_s() + (group.rank == 0 ? 0.0 : std::min(10.0, 1.0 * group.rank));
      const double silent_s = seconds_since(heard_[static_cast<std::size_t>(rank)]);
      if (!watches(rank) || silent_s < limit_s) continue;
      char text[64];
      std::snprintf(text, sizeof text, " has not answered for %.0f s", silent_s);
      end_all(kIoFailure, name_of(rank) + text +
                              ": it is stopped, or its machine cannot be reached. Start the run again with "
                              "--resume-from-checkpoint auto, without that machine if need be");
    }
  }

  char beat_ = 0;
  int gone_ = 0;
  Clock::time_point sent_{};
  std::vector<Clock::time_point> heard_ =
      std::vector<Clock::time_point>(static_cast<std::size_t>(group.size), Clock::now());
  std::vector<MPI_Request> requests_ = std::vector<MPI_Request>(static_cast<std::size_t>(group.size), MPI_REQUEST_NULL);
};

// Sleeps while it waits: a rank that spins takes a core from those that compute.
void wait_for_all() {
  const auto start = Clock::now();
  MPI_Request request;
  MPI_Ibarrier(group.work, &request);
  auto pause = std::chrono::microseconds(20);
  for (int done = 0;;) {
    MPI_Test(&request, &done, MPI_STATUS_IGNORE);
    if (done != 0) break;
    if (seconds_since(start) < 100e-6) continue;
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, std::chrono::microseconds(1000));
  }
  group.waited_s += seconds_since(start);
}

// Each rank sums one part in the order of ranks, in double precision, and sends it to all: every rank gets the same
// bits whatever algorithm the MPI would choose for a sum. `widen` makes a double of an element, round(sum, idx) an
// element of the sum at `idx` of the block.
template <typename Element, typename Widen, typename Round>
void sum_block(Element* values, std::size_t count, MPI_Datatype type, Widen widen, Round round) {
  const auto n = static_cast<std::size_t>(group.size);
  std::vector<int> counts(n), begins(n);
  for (std::size_t r = 0; r < n; ++r) {
    begins[r] = static_cast<int>(count * r / n);
    counts[r] = static_cast<int>(count * (r + 1) / n) - begins[r];
  }
  const auto own = static_cast<std::size_t>(counts[static_cast<std::size_t>(group.rank)]);
  std::vector<int> own_counts(n, static_cast<int>(own)), own_begins(n);
  for (std::size_t r = 0; r < n; ++r) own_begins[r] = static_cast<int>(r * own);
  std::vector<Element> parts(own * n), sums(own);
  MPI_Alltoallv(values, counts.data(), begins.data(), type, parts.data(), own_counts.data(), own_begins.data(), type,
                group.work);
  const auto first = static_cast<std::size_t>(begins[static_cast<std::size_t>(group.rank)]);
  for (std::size_t i = 0; i < own; ++i) {
    double sum = 0.0;
    for (std::size_t r = 0; r < n; ++r) sum += widen(parts[r * own + i]);
    sums[i] = round(sum, first + i);
  }
  MPI_Allgatherv(sums.data(), static_cast<int>(own), type, values, counts.data(), begins.data(), type, group.work);
}

float from_bfloat16(std::uint16_t bits) { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }

// To the nearest, ties to even; a NaN stays one.
std::uint16_t to_bfloat16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (std::isnan(value)) return static_cast<std::uint16_t>(bits >> 16 | 0x40);
  return static_cast<std::uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

void gather_bytes(const char* bytes, std::size_t size) {
  const auto n = static_cast<std::size_t>(group.size);
  std::uint64_t mine = size;
  std::vector<std::uint64_t> sizes(n);
  MPI_Allgather(&mine, 1, MPI_UINT64_T, sizes.data(), 1, MPI_UINT64_T, group.work);
  std::vector<int> counts(n), begins(n);
  std::uint64_t total = 0;
  for (std::size_t r = 0; r < n; ++r) {
    begins[r] = static_cast<int>(total);
    counts[r] = static_cast<int>(sizes[r]);
    total += sizes[r];
  }
  group.gathered.resize(total + 1);
  group.gathered_sizes.assign(sizes.begin(), sizes.end());
  MPI_Allgatherv(bytes, static_cast<int>(size), MPI_CHAR, group.gathered.data(), counts.data(), begins.data(), MPI_CHAR,
                 group.work);
}

std::string host_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "?";
}

void gather_hosts() {
  const std::string host = host_name(), mine = host + "\n" + std::to_string(::getpid());
  gather_bytes(mine.data(), mine.size());
  const char* at = group.gathered.data();
  for (const std::size_t bytes : group.gathered_sizes) {
    const std::string text(at, bytes);
    const std::size_t line = text.find('\n');
    group.hosts.push_back(text.substr(0, line));
    const auto process = static_cast<pid_t>(std::strtol(text.c_str() + line + 1, nullptr, 10));
    // Of a container on the same host it may be unknown here.
    group.local.push_back(group.hosts.back() == host && ::kill(process, 0) == 0 ? process : 0);
    at += bytes;
  }
}

int start(int* rank, int* size, char* version, char* text) {
  int level = 0;
  if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &level) != MPI_SUCCESS || level < MPI_THREAD_MULTIPLE) {
    std::snprintf(text, kBezelMpiText, "this MPI was built without support for threads (MPI_THREAD_MULTIPLE)");
    return 1;
  }
  MPI_Comm_rank(MPI_COMM_WORLD, &group.rank);
  MPI_Comm_size(MPI_COMM_WORLD, &group.size);
  MPI_Comm_dup(MPI_COMM_WORLD, &group.work);
  MPI_Comm_dup(MPI_COMM_WORLD, &group.control);
  *rank = group.rank;
  *size = group.size;
  std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> name{};
  int length = 0;
  MPI_Get_library_version(name.data(), &length);
  std::snprintf(version, kBezelMpiText, "%s", std::string(name.data(), std::strcspn(name.data(), ",\n")).c_str());
  gather_hosts();
  if (group.size > 1) group.monitor = std::thread([] { Monitor().run(); });
  return 0;
}

const char* host(int rank) { return group.hosts[static_cast<std::size_t>(rank)].c_str(); }

template <typename Sum>
void sum_in_blocks(std::size_t count, Sum sum_one) {
  wait_for_all();
  const auto start = Clock::now();
  for (std::size_t begin = 0; begin < count; begin += kSumBlock) sum_one(begin, std::min(kSumBlock, count - begin));
  group.transfer_s += seconds_since(start);
}

void sum(float* values, std::size_t count) {
  sum_in_blocks(count, [&](std::size_t begin, std::size_t size) {
    sum_block(
        values + begin, size, MPI_FLOAT, [](float value) { return static_cast<double>(value); },
        [](double sum, std::size_t) { return static_cast<float>(sum); });
  });
}

void sum_bfloat16(std::uint16_t* values, std::size_t count, float* error) {
  sum_in_blocks(count, [&](std::size_t begin, std::size_t size) {
    sum_block(
        values + begin, size, MPI_UINT16_T, [](std::uint16_t bits) { return static_cast<double>(from_bfloat16(bits)); },
        [error = error + begin](double sum, std::size_t idx) {
          const std::uint16_t rounded = to_bfloat16(static_cast<float>(sum));
          // Of a sum that overflows there is nothing to make up for: the update is skipped.
          if (const double left = sum - from_bfloat16(rounded); std::isfinite(left))
            error[idx] += static_cast<float>(left);
          return rounded;
        });
  });
}

void gather(const char* bytes, std::size_t size, const char** all, const std::size_t** sizes) {
  wait_for_all();
  const auto start = Clock::now();
  gather_bytes(bytes, size);
  group.transfer_s += seconds_since(start);
  *all = group.gathered.data();
  *sizes = group.gathered_sizes.data();
}

void times(double* waited, double* transferred) {
  *waited = group.waited_s;
  *transferred = group.transfer_s;
}

void fail(int code, const char* message) {
  if (group.rank != 0) {
    const std::string text = std::to_string(code) + "\n" + message;
    MPI_Send(text.data(), static_cast<int>(text.size()), MPI_CHAR, 0, kFailure, group.control);
    std::this_thread::sleep_for(seconds(10));  // rank 0 ends all, unless it cannot
  }
  end_all(code, group.size > 1 ? name_of(group.rank) + ": " + message : message);
}

void finish() {
  wait_for_all();
  group.ends = true;
  if (group.monitor.joinable()) group.monitor.join();
  MPI_Barrier(group.control);
  // Beats that nobody reads any more.
  for (int has_message = 1; has_message != 0;) {
    MPI_Status status;
    MPI_Iprobe(MPI_ANY_SOURCE, kBeat, group.control, &has_message, &status);
    char beat = 0;
    if (has_message != 0) MPI_Recv(&beat, 1, MPI_CHAR, status.MPI_SOURCE, kBeat, group.control, MPI_STATUS_IGNORE);
  }
  MPI_Finalize();
}

constexpr BezelMpi kFunctions{start, host, sum, sum_bfloat16, gather, wait_for_all, times, fail, finish};

}  // namespace

const BezelMpi* bezel_mpi(int abi) { return abi == kBezelMpiAbi ? &kFunctions : nullptr; }
