#include "bezel/io/hub_cache.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <system_error>

#include "bezel/error.h"
#include "bezel/io/home_path.h"

namespace bezel::io {
namespace {

namespace fs = std::filesystem;

bool is_folder(const fs::path& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

std::string variable(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : expand_home(value);
}

std::string cache_name(std::string id) {
  const auto slash = id.find('/');
  if (slash != std::string::npos) id.replace(slash, 1, "--");
  return "models--" + id;
}

// The commit that the branch main stood at, or "".
std::string main_commit(const fs::path& folder) {
  std::ifstream file(folder / "refs" / "main");
  std::string commit;
  file >> std::setw(65) >> commit;
  const bool is_name =
      commit.size() <= 64 && std::ranges::all_of(commit, [](unsigned char c) { return std::isalnum(c); });
  return is_name ? commit : "";
}

std::vector<std::string> snapshots_of(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator at(folder / "snapshots", error), end; !error && at != end; at.increment(error))
    if (is_folder(at->path())) names.push_back(at->path().filename().string());
  std::ranges::sort(names);
  return names;
}

}  // namespace

bool is_hub_id(std::string_view name) {
  const auto slash = name.find('/');
  if (slash == 0 || slash == std::string_view::npos || slash + 1 == name.size()) return false;
  if (name.find('/', slash + 1) != std::string_view::npos || name.front() == '.' || name.size() > 200) return false;
  return std::ranges::all_of(
      name, [](unsigned char c) { return std::isalnum(c) || c == '-' || c == '_' || c == '.' || c == '/'; });
}

std::vector<std::string> hub_cache_roots() {
  std::vector<std::string> roots;
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"})
    if (const std::string root = variable(name); !root.empty()) roots.push_back(root);
  if (const std::string home = variable("HF_HOME"); !home.empty()) roots.push_back(home + "/hub");
  if (const std::string cache = variable("XDG_CACHE_HOME"); !cache.empty()) roots.push_back(cache + "/huggingface/hub");
  if (const std::string home = home_folder(); !home.empty()) roots.push_back(home + "/.cache/huggingface/hub");
  return roots;
}

std::optional<std::string> find_snapshot(const std::string& folder) {
  const fs::path root(folder);
  if (!is_folder(root / "snapshots")) return std::nullopt;
  std::error_code error;
  if (fs::exists(root / "config.json", error)) return std::nullopt;  // a checkpoint that happens to have such a folder
  const std::vector<std::string> names = snapshots_of(root);
  if (names.empty())
    throw Error(ErrorKind::kConfig, folder, ": a cache folder without a snapshot; the download did not finish");
  if (const std::string commit = main_commit(root); std::ranges::find(names, commit) != names.end())
    return (root / "snapshots" / commit).string();
  if (names.size() == 1) return (root / "snapshots" / names[0]).string();
  throw Error(ErrorKind::kConfig, folder, ": a cache folder with ", names.size(),
              " snapshots and no refs/main that names one; write the path of one of them, such as ",
              (root / "snapshots" / names[0]).string());
}

std::string find_model(const std::string& name) {
  std::error_code error;
  if (fs::exists(name, error)) return find_snapshot(name).value_or(name);
  if (!is_hub_id(name)) return name;
  const std::vector<std::string> roots = hub_cache_roots();
  for (const std::string& root : roots)
    if (auto snapshot = find_snapshot(root + "/" + cache_name(name))) return *snapshot;
  throw Error(ErrorKind::kConfig, "'", name, "': no such folder; as a model of the Hugging Face hub it is not in ",
              roots.empty() ? "a local cache" : roots[0], ". Bezel downloads nothing: run `hf download ", name,
              "` and try again, or name the folder of the checkpoint");
}

}  // namespace bezel::io
