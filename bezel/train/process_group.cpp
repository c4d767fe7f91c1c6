#include "bezel/train/process_group.h"

#include <unistd.h>

namespace bezel::train {
namespace {

class SingleProcess : public ProcessGroup {
 public:
  std::int64_t rank() const override { return 0; }
  std::int64_t size() const override { return 1; }
  std::string host(std::int64_t) const override {
    char name[256] = {};
    return ::gethostname(name, sizeof name - 1) == 0 ? name : "localhost";
  }
  void sum(float*, std::size_t) override {}
  void sum_bfloat16(std::uint16_t*, std::size_t, float*) override {}
  std::vector<std::string> gather(const std::string& text) override { return {text}; }
  void barrier() override {}
  double waited_s() const override { return 0.0; }
};

}  // namespace

std::string ProcessGroup::name(std::int64_t rank) const {
  return "rank " + std::to_string(rank) + " on host " + host(rank);
}

ProcessGroup& single_process() {
  static SingleProcess alone;
  return alone;
}

bool any_rank(ProcessGroup& group, bool value) {
  if (group.size() == 1) return value;
  for (const std::string& of_rank : group.gather(value ? "1" : "0"))
    if (of_rank == "1") return true;
  return false;
}

void check_alike(ProcessGroup& group, const std::string& text, ErrorKind kind,
                 const std::function<std::string(const std::string&, const std::string&)>& difference) {
  const std::vector<std::string> texts = group.gather(text);
  for (std::size_t rank = 1; rank < texts.size(); ++rank)
    if (texts[rank] != texts[0])
      throw Error(kind, group.name(static_cast<std::int64_t>(rank)), " has other inputs than ", group.name(0), ": ",
                  difference(texts[0], texts[rank]));
}

void agree_on_error(ProcessGroup& group, const std::optional<Error>& error) {
  const std::string mine =
      error ? std::to_string(static_cast<int>(error->kind())) + "\n" + error->what() : std::string();
  const std::vector<std::string> all = group.gather(mine);
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    if (all[rank].empty()) continue;
    const std::size_t line = all[rank].find('\n');
    throw Error(static_cast<ErrorKind>(std::stoi(all[rank].substr(0, line))),
                group.name(static_cast<std::int64_t>(rank)), ": ", all[rank].substr(line + 1));
  }
}

}  // namespace bezel::train
