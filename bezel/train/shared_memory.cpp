#include "bezel/train/shared_memory.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <functional>
#include <random>

#include <ATen/ATen.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bezel/error.h"
#include "bezel/gemma4/source.h"

namespace bezel::train {
namespace {

constexpr std::size_t kAlignment = 4096;

std::size_t aligned(std::size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

/// A mapping of `size` bytes.
class Mapping {
 public:
  Mapping(void* begin, std::size_t size) : begin_(static_cast<std::byte*>(begin)), size_(size) {}
  ~Mapping() { ::munmap(begin_, size_); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  std::byte* begin() const { return begin_; }
  std::size_t size() const { return size_; }

 private:
  std::byte* begin_;
  std::size_t size_;
};

using Token = std::array<std::uint32_t, 4>;

/// What a process says of a file without a name: where others of its machine find it, and how they know it.
struct Offer {
  std::string path;
  Token token{};
};

std::shared_ptr<const Mapping> map_pages(int fd, std::size_t bytes) {
  const int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE : MAP_SHARED;
  void* const begin = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
  return begin == MAP_FAILED ? nullptr : std::make_shared<Mapping>(begin, bytes);
}

/// An open file that is closed at the end.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

// Its first page has the token, by which nobody takes another file for it.
std::shared_ptr<const Mapping> offer_pages(const Descriptor& file, std::size_t bytes, Offer& offer) {
  if (file.get() < 0 || ::ftruncate(file.get(), static_cast<off_t>(bytes)) != 0) return nullptr;
  auto pages = map_pages(file.get(), bytes);
  if (!pages) return nullptr;
  std::random_device device;
  std::ranges::generate(offer.token, std::ref(device));
  std::memcpy(pages->begin(), offer.token.data(), sizeof offer.token);
  offer.path = "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(file.get());
  return pages;
}

std::shared_ptr<const Mapping> take_pages(const Offer& offer, std::size_t bytes) {
  const Descriptor file(offer.path.empty() ? -1 : ::open(offer.path.c_str(), O_RDWR | O_CLOEXEC));
  Token token{};
  if (file.get() < 0 || ::pread(file.get(), token.data(), sizeof token, 0) != static_cast<ssize_t>(sizeof token) ||
      token != offer.token || ::lseek(file.get(), 0, SEEK_END) != static_cast<off_t>(bytes))
    return nullptr;
  return map_pages(file.get(), bytes);
}

std::string to_text(const Offer& offer) {
  std::string text(sizeof offer.token, '\0');
  std::memcpy(text.data(), offer.token.data(), sizeof offer.token);
  return text + offer.path;
}

Offer read_offer(const std::string& text) {
  Offer offer;
  if (text.size() < sizeof offer.token) return offer;
  std::memcpy(offer.token.data(), text.data(), sizeof offer.token);
  offer.path = text.substr(sizeof offer.token);
  return offer;
}

class GroupMemory : public quant::SharedMemory {
 public:
  GroupMemory(ProcessGroup& group, std::shared_ptr<const Mapping> pages, std::int64_t place, std::int64_t count)
      : group_(group), pages_(std::move(pages)), place_(place), count_(count) {}

  torch::Tensor next(torch::IntArrayRef sizes, torch::ScalarType dtype) override {
    const std::size_t bytes = static_cast<std::size_t>(c10::multiply_integers(sizes)) * c10::elementSize(dtype);
    TORCH_CHECK(used_ + bytes <= pages_->size(), "shared memory of ", pages_->size(), " bytes has no room for ", bytes);
    void* const begin = pages_->begin() + used_;
    used_ += aligned(bytes);
    return at::from_blob(
        begin, sizes, [pages = pages_](void*) {}, at::TensorOptions().dtype(dtype));
  }
  bool next_is_mine() override { return turn_++ % count_ == place_; }
  void wait() override { group_.barrier(); }

 private:
  ProcessGroup& group_;
  std::shared_ptr<const Mapping> pages_;
  std::int64_t place_, count_, turn_ = 0;  // this process's place among those that share
  std::size_t used_ = kAlignment;          // behind the token
};

std::vector<std::int64_t> ranks_on(const std::string& host, const ProcessGroup& group) {
  std::vector<std::int64_t> ranks;
  for (std::int64_t rank = 0; rank < group.size(); ++rank)
    if (group.host(rank) == host) ranks.push_back(rank);
  return ranks;
}

void note_loners(const ProcessGroup& group, const std::vector<std::string>& taken, std::vector<std::string>& notes) {
  for (std::int64_t rank = 0; rank < group.size(); ++rank)
    if (taken[static_cast<std::size_t>(rank)].empty() && ranks_on(group.host(rank), group).size() > 1)
      notes.push_back(group.name(rank) +
                      " cannot reach the memory of the other processes of its host, and quantizes all matrices itself");
}

}  // namespace

std::unique_ptr<quant::SharedMemory> share_memory(ProcessGroup& group, std::size_t bytes,
                                                  std::vector<std::string>& notes) {
  bytes = aligned(bytes) + kAlignment;
  const std::vector<std::int64_t> local = ranks_on(group.host(group.rank()), group);
  const bool offers = local.front() == group.rank();
  const Descriptor file(offers && local.size() > 1 ? ::memfd_create("bezel codes", MFD_CLOEXEC) : -1);
  Offer offer;
  std::shared_ptr<const Mapping> pages = offers ? offer_pages(file, bytes, offer) : nullptr;
  const std::vector<std::string> offers_of = group.gather(to_text(offer));
  if (!offers) pages = take_pages(read_offer(offers_of[static_cast<std::size_t>(local.front())]), bytes);
  // The offered file stays open until all have taken it.
  const std::vector<std::string> taken = group.gather(pages ? "1" : "");
  std::vector<std::int64_t> sharing;
  for (const std::int64_t rank : local)
    if (!taken[static_cast<std::size_t>(rank)].empty()) sharing.push_back(rank);
  note_loners(group, taken, notes);
  if (pages) {
    const auto place = std::ranges::find(sharing, group.rank()) - sharing.begin();
    return std::make_unique<GroupMemory>(group, std::move(pages), place, static_cast<std::int64_t>(sharing.size()));
  }
  pages = map_pages(-1, bytes);
  if (!pages) throw Error(ErrorKind::kMemory, "no room for ", bytes, " bytes of addresses: ", std::strerror(errno));
  return std::make_unique<GroupMemory>(group, std::move(pages), 0, 1);
}

std::unique_ptr<quant::SharedMemory> share_codes(const TrainConfig& config, ProcessGroup& group,
                                                 std::vector<std::string>& notes) {
  if (group.size() == 1 || (config.storage == "dense" && !config.quantize_embeddings)) return nullptr;
  // Codes are smaller than what they are made of, but for the rounding up to pages.
  std::size_t bytes = 0;
  const gemma4::Source source(config.base_model, config.mmproj);
  for (const auto& [name, tensor] : source.all()) bytes += static_cast<std::size_t>(tensor.bytes()) + 5 * kAlignment;
  return share_memory(group, bytes, notes);
}

}  // namespace bezel::train
