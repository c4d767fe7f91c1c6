#include "bezel/train/rank_setup.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <sched.h>

#include "bezel/error.h"
#include "bezel/io/json.h"
#include "bezel/io/memory_nodes.h"
#include "bezel/io/sha256.h"

namespace bezel::train {
namespace {

using io::Json;

// The cores that this process may run on, as "0,1,5".
std::string core_list() {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (::sched_getaffinity(0, sizeof cores, &cores) != 0) return "";
  std::string list;
  for (int core = 0; core < CPU_SETSIZE; ++core)
    if (CPU_ISSET(core, &cores)) list += std::to_string(core) + ",";
  return list;
}

Json compared(const RunFacts& facts) { return {{"config", facts.config}, {"inputs", facts.inputs}}; }

std::map<std::string, std::string> map_in(const std::string& text, const char* key) {
  return Json::parse(text)[key].get<std::map<std::string, std::string>>();
}

// "key: rank 0 has A, it has B" of what differs.
std::string difference_of_facts(const std::string& first, const std::string& other) {
  std::string text;
  for (const char* key : {"inputs", "config"}) {
    const auto a = map_in(first, key), b = map_in(other, key);
    for (const auto& [name, value] : a)
      if (const auto found = b.find(name); found == b.end() || found->second != value)
        text += (text.empty() ? "" : "; ") + name + " is not the same";
    for (const auto& [name, value] : b)
      if (!a.contains(name)) text += (text.empty() ? "" : "; ") + name + " is there only";
  }
  return text + ". All hosts need the same files; copy them, or put them on a file system that all share";
}

}  // namespace

TrainConfig config_of_rank(TrainConfig config, const ProcessGroup& group) {
  if (group.size() == 1) return config;
  if (!config.global_batch_size)
    config.global_batch_size = config.micro_batch_size * config.gradient_accumulation_steps * group.size();
  if (micro_batches(config) < group.size())
    throw Error(ErrorKind::kConfig, "global_batch_size: ", *config.global_batch_size, " is ", micro_batches(config),
                " micro-batch(es) of micro_batch_size ", config.micro_batch_size, ", fewer than the ", group.size(),
                " processes that share them; raise it, lower micro_batch_size or start fewer");
  if (group.is_first()) return config;
  config.sample_predictions = 0;
  config.report_to.clear();
  return config;
}

void choose_threads(const TrainConfig& config, ProcessGroup& group) {
  if (config.threads) at::set_num_threads(static_cast<int>(*config.threads));
  if (group.size() == 1) return;
  const std::string mine = group.host(group.rank()) + " " + core_list();
  const std::vector<std::string> all = group.gather(mine);
  if (config.threads || std::getenv("OMP_NUM_THREADS") != nullptr) return;
  const auto cores = std::ranges::count(mine.substr(mine.find(' ')), ',');
  at::set_num_threads(static_cast<int>(std::max<std::ptrdiff_t>(1, cores / std::ranges::count(all, mine))));
}

void check_inputs_alike(const RunFacts& facts, ProcessGroup& group) {
  if (group.size() == 1) return;
  check_alike(group, compared(facts).dump(), ErrorKind::kData, difference_of_facts);
}

void check_resume_alike(const std::optional<ResumePoint>& resume, ProcessGroup& group) {
  if (group.size() == 1) return;
  std::string found = "none";
  if (resume)
    found = std::filesystem::path(resume->folder).filename().string() + " " +
            io::sha256_file((std::filesystem::path(resume->folder) / "MANIFEST.json").string());
  check_alike(group, found, ErrorKind::kIo, [](const std::string& first, const std::string& other) {
    const auto name = [](const std::string& text) { return text.substr(0, text.find(' ')); };
    return "resume_from_checkpoint: rank 0 goes on from " + name(first) + ", it finds " + name(other) +
           " or another checkpoint of that name. output_dir must be a folder that all hosts share";
  });
}

void check_adapters_alike(const NamedTensors& tensors, ProcessGroup& group) {
  if (group.size() == 1) return;
  io::Sha256 hash;
  for (const auto& [name, tensor] : tensors) {
    const torch::Tensor bytes = tensor.detach().cpu().contiguous();
    hash.update(name);
    hash.update(bytes.data_ptr(), bytes.nbytes());
  }
  check_alike(group, hash.finish(), ErrorKind::kData, [](const std::string&, const std::string&) {
    return std::string(
        "the adapter starts from other numbers; init_adapter must be the same files, and LibTorch the "
        "same version, on all hosts");
  });
}

std::string ranks_note(const TrainConfig& config, ProcessGroup& group) {
  std::map<std::string, int> hosts;
  for (std::int64_t rank = 0; rank < group.size(); ++rank) ++hosts[group.host(rank)];
  std::string text;
  for (const auto& [host, count] : hosts) text += (text.empty() ? "" : ", ") + std::to_string(count) + " on " + host;
  const std::int64_t batches = micro_batches(config), left = batches % group.size();
  text = std::to_string(group.size()) + " processes (" + text + ") with " + std::to_string(at::get_num_threads()) +
         " thread(s) each share the " + std::to_string(batches) + " micro-batches of an update";
  return left == 0 ? text : text + "; it does not divide, so " + std::to_string(group.size() - left) + " of them wait";
}

std::string node_hint(torch::Device device) {
  return device.is_cpu() ? io::node_hint(io::memory_nodes(io::kSystemFolder, io::usable_parts())) : "";
}

std::vector<std::int64_t> of_share(const std::vector<std::int64_t>& items, const ProcessGroup& group) {
  std::vector<std::int64_t> mine;
  for (auto i = static_cast<std::size_t>(group.rank()); i < items.size(); i += static_cast<std::size_t>(group.size()))
    mine.push_back(items[i]);
  return mine;
}

}  // namespace bezel::train
