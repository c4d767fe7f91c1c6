#include "bezel/gemma4/orbax_once.h"

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "bezel/error.h"
#include "bezel/gemma4/orbax_check.h"
#include "bezel/gemma4/orbax_config.h"
#include "bezel/gemma4/orbax_map.h"
#include "bezel/io/file_sample.h"
#include "bezel/io/json.h"
#include "bezel/io/regular_file.h"
#include "bezel/io/sha256.h"
#include "bezel/io/zarr.h"

namespace bezel::gemma4 {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTokenizerFiles[] = {
    "config.json",           "tokenizer.json",           "tokenizer_config.json",
    "processor_config.json", "preprocessor_config.json", "chat_template.jinja",
    "chat_template.json",    "generation_config.json",
};

/// Holds the lock of a folder; others wait for it. Without effect on file systems that lock no folders.
class FolderLock {
 public:
  explicit FolderLock(const fs::path& folder) : fd_(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    while (fd_ >= 0 && ::flock(fd_, LOCK_EX) != 0 && errno == EINTR) {
    }
  }
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;
  ~FolderLock() {
    if (fd_ >= 0) ::close(fd_);
  }

 private:
  int fd_ = -1;
};

/// Without a slash at the end.
fs::path output_path(const std::string& output) {
  const fs::path path = fs::absolute(output).lexically_normal();
  return path.has_filename() ? path : path.parent_path();
}

/// Of all files of the checkpoint, their names, sizes and samples, and of the tokenizer's small files.
std::string source_fingerprint(const OrbaxOnce& wanted) {
  const std::string folder = io::ZarrStore::open(wanted.model).folder();
  std::vector<std::string> paths;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file()) paths.push_back(entry.path().string());
  std::ranges::sort(paths);
  io::Sha256 hash;
  for (const std::string& path : paths) {
    const io::RegularFile file(path);
    hash.update(fs::path(path).lexically_relative(folder).string() + " " + std::to_string(file.size_bytes()) + "\n");
    io::update_with_samples(hash, file, 0, file.size_bytes());
  }
  for (const char* name : kTokenizerFiles)
    if (const std::string path = wanted.tokenizer + "/" + name; io::is_there(path))
      hash.update(std::string(name) + " " + io::sha256_file(path) + "\n");
  return hash.finish();
}

/// Whether the folder was made of what the fingerprint is of.
bool is_converted(const fs::path& output, const std::string& fingerprint, const OrbaxOnce& wanted) {
  std::error_code error;
  if (!fs::exists(fs::symlink_status(output, error))) return false;
  const std::string path = (output / io::kOriginFile).string();
  if (!io::is_there(path))
    throw Error(ErrorKind::kConfig, "convert_to ", wanted.output, ": is there already and has no ", io::kOriginFile,
                ", so it was not made by convert_to; name a new folder, or where it is the converted checkpoint, name "
                "it as base_model");
  const io::Json origin = io::read_json_file(path);
  if (io::JsonView(origin, path).at("fingerprint").text() != fingerprint)
    throw Error(ErrorKind::kConfig, "convert_to ", wanted.output, ": was made of another checkpoint or tokenizer than ",
                wanted.model, " and ", wanted.tokenizer, " are now; name a new folder, or remove this one");
  return true;
}

/// The tokenizer's config.json, or "" for a released size.
std::string needed_config(const OrbaxOnce& wanted) {
  const io::ZarrStore store = io::ZarrStore::open(wanted.model);
  OrbaxShapes shapes;
  for (const io::ZarrName& name : store.names())
    shapes[normal_orbax_name(name.path)] = io::ZarrArray::open(store, name.text()).shape();
  if (!orbax_size(shapes).empty()) return "";
  std::string config = wanted.tokenizer + "/config.json";
  if (!io::is_there(config))
    throw Error(ErrorKind::kConfig, wanted.model, ": of no released size (E2B, E4B, 26B-A4B, 31B), so config.json is ",
                "needed, and the tokenizer's folder ", wanted.tokenizer, " has none; put the model's there");
  return config;
}

void check_room(const fs::path& folder, std::int64_t bytes, const OrbaxOnce& wanted) {
  std::error_code error;
  const fs::space_info room = fs::space(folder, error);
  if (!error && room.available < static_cast<std::uintmax_t>(bytes))
    throw Error(ErrorKind::kIo, "convert_to ", wanted.output, ": takes ", bytes / 1'000'000, " MB, and ",
                room.available / 1'000'000, " MB are free there; name a folder on a disk with more room");
}

}  // namespace

bool convert_orbax_once(const OrbaxOnce& wanted, const OrbaxBegin& on_begin) {
  const fs::path output = output_path(wanted.output), parent = output.parent_path();
  std::error_code error;
  fs::create_directories(parent, error);
  if (error) throw Error(ErrorKind::kIo, "convert_to ", wanted.output, ": ", parent.string(), ": ", error.message());
  const FolderLock lock(parent);
  const std::string fingerprint = source_fingerprint(wanted);
  if (is_converted(output, fingerprint, wanted)) return false;
  const std::string config = needed_config(wanted);
  OrbaxPlan plan = plan_orbax({.model = wanted.model, .tokenizer = wanted.tokenizer, .config = config});
  check_orbax_plan(plan, config.empty() ? wanted.model : config);
  std::int64_t bytes = 0;
  for (const io::CheckpointPart& part : plan.checkpoint.parts) bytes += static_cast<std::int64_t>(part.size_bytes());
  check_room(parent, bytes, wanted);
  plan.checkpoint.origin = {{"made_by", "bezel, key convert_to"},
                            {"model", fs::absolute(wanted.model).string()},
                            {"tokenizer", fs::absolute(wanted.tokenizer).string()},
                            {"fingerprint", fingerprint}};
  on_begin(bytes, plan.unused);
  io::write_checkpoint(plan.checkpoint, output.string());
  return true;
}

}  // namespace bezel::gemma4
