#include "bezel/train/mpi_group.h"

#include <cstdlib>
#include <filesystem>

#include <dlfcn.h>

#include "bezel/train/mpi_interface.h"

namespace bezel::train {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLibrary = "libbezel_mpi.so";

std::int64_t number_in(const char* variable) {
  const char* const text = std::getenv(variable);
  return text == nullptr ? 0 : std::strtoll(text, nullptr, 10);
}

void* open_library(const Launch& launch) {
  std::error_code error;
  const fs::path folder = fs::read_symlink("/proc/self/exe", error).parent_path();
  std::string why;
  for (const fs::path& path : {folder / kLibrary, folder / ".." / "lib" / "bezel" / kLibrary, fs::path(kLibrary)}) {
    if (path.has_parent_path() && !fs::exists(path, error)) continue;
    // Components of an MPI look for its symbols among the global ones.
    if (void* const library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL)) return library;
    why = ::dlerror();
  }
  throw Error(ErrorKind::kConfig, launch.by, " started ", launch.size, " processes of bezel, and ", kLibrary,
              ", which joins them, cannot be loaded (", why,
              "). Install an MPI with its headers (Debian: libopenmpi-dev openmpi-bin) and build with BEZEL_MPI=ON, or "
              "start bezel without ",
              launch.by);
}

const BezelMpi& find_functions(const Launch& launch) {
  void* const library = open_library(launch);
  auto* const find = reinterpret_cast<decltype(&bezel_mpi)>(::dlsym(library, "bezel_mpi"));
  const BezelMpi* const functions = find == nullptr ? nullptr : find(kBezelMpiAbi);
  if (functions == nullptr)
    throw Error(ErrorKind::kConfig, kLibrary, ": is of another version of bezel; build both from the same sources");
  return *functions;
}

class LoadedGroup : public MpiGroup {
 public:
  explicit LoadedGroup(const Launch& launch) : mpi_(find_functions(launch)) {
    char version[kBezelMpiText] = {}, text[kBezelMpiText] = {};
    if (mpi_.start(&rank_, &size_, version, text) != 0) throw Error(ErrorKind::kConfig, kLibrary, ": ", text);
    version_ = version;
    if (size_ != launch.size)
      throw Error(ErrorKind::kConfig, launch.by, " started ", launch.size, " processes, but ", version_, " sees ",
                  size_,
                  launch.by == "srun" ? "; try `srun --mpi=pmix` or `--mpi=pmi2`, or mpirun inside the job"
                                      : "; bezel must be built with the MPI that starts it");
  }

  std::int64_t rank() const override { return rank_; }
  std::int64_t size() const override { return size_; }
  std::string host(std::int64_t rank) const override { return mpi_.host(static_cast<int>(rank)); }
  void sum(float* values, std::size_t count) override { mpi_.sum(values, count); }
  void sum_bfloat16(std::uint16_t* values, std::size_t count, float* error) override {
    mpi_.sum_bfloat16(values, count, error);
  }
  void barrier() override { mpi_.barrier(); }
  std::vector<std::string> gather(const std::string& text) override {
    const char* all = nullptr;
    const std::size_t* sizes = nullptr;
    mpi_.gather(text.data(), text.size(), &all, &sizes);
    std::vector<std::string> texts;
    for (int rank = 0; rank < size_; all += sizes[rank++]) texts.emplace_back(all, sizes[rank]);
    return texts;
  }
  double waited_s() const override {
    double waited = 0.0, transferred = 0.0;
    mpi_.times(&waited, &transferred);
    return waited;
  }
  void fail(int code, const std::string& message) override {
    mpi_.fail(code, message.c_str());
    std::abort();
  }
  void finish() override { mpi_.finish(); }
  const std::string& version() const override { return version_; }

 private:
  const BezelMpi& mpi_;
  int rank_ = 0, size_ = 1;
  std::string version_;
};

}  // namespace

Launch find_launch() {
  if (const std::int64_t size = number_in("OMPI_COMM_WORLD_SIZE"); size > 0) return {"mpirun", size};
  if (const std::int64_t size = number_in("SLURM_STEP_NUM_TASKS"); size > 0 && std::getenv("SLURM_PROCID") != nullptr)
    return {size > 1 ? "srun" : "", size};
  // MPICH's and Intel's mpirun; a PMIx launcher that tells no size is asked by MPI itself.
  if (const std::int64_t size = number_in("PMI_SIZE"); size > 0) return {"mpirun", size};
  return {};
}

std::unique_ptr<MpiGroup> join_mpi(const Launch& launch) { return std::make_unique<LoadedGroup>(launch); }

}  // namespace bezel::train
