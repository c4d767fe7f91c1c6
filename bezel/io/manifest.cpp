#include "bezel/io/manifest.h"

#include <filesystem>
#include <set>

#include "bezel/error.h"
#include "bezel/io/atomic_write.h"
#include "bezel/io/json.h"
#include "bezel/io/regular_file.h"
#include "bezel/io/sha256.h"

namespace bezel::io {
namespace {

namespace fs = std::filesystem;

constexpr const char* kName = "MANIFEST.json";

void check_file(const std::string& folder, const std::string& name, const JsonView& listed) {
  if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos)
    listed.fail("a file of this folder");
  const std::string path = (fs::path(folder) / name).string();
  const auto size_bytes = static_cast<std::int64_t>(RegularFile(path).size_bytes());
  const std::int64_t wanted_bytes = listed.at("bytes").whole();
  if (size_bytes != wanted_bytes)
    throw Error(path, ": has ", size_bytes, " bytes, ", kName, " says ", wanted_bytes, "; the file is damaged");
  const std::string found = sha256_file(path), wanted = listed.at("sha256").text();
  if (found != wanted)
    throw Error(path, ": its SHA-256 is ", found, ", ", kName, " says ", wanted, "; the file is damaged");
}

}  // namespace

void write_manifest(const std::string& folder) {
  std::set<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error))
    if (entry->path().filename() != kName) names.insert(entry->path().filename().string());
  if (error) throw Error(ErrorKind::kIo, folder, ": cannot be listed: ", error.message());
  Json files = Json::object();
  for (const std::string& name : names) {
    const std::string path = (fs::path(folder) / name).string();
    const std::string hash = sha256_file(path);
    files[name] = {{"bytes", RegularFile(path).size_bytes()}, {"sha256", hash}};
  }
  const Json manifest = {{"files", std::move(files)}};
  write_file_atomically((fs::path(folder) / kName).string(), manifest.dump(2) + "\n");
}

void check_manifest(const std::string& folder) {
  const std::string path = (fs::path(folder) / kName).string();
  const Json manifest = read_json_file(path);
  for (const auto& [name, listed] : JsonView(manifest, path).at("files").members()) check_file(folder, name, listed);
}

}  // namespace bezel::io
