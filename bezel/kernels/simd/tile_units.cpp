#include "bezel/kernels/simd/tile_units.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

#include <c10/util/Exception.h>

#include "bezel/error.h"
#include "bezel/kernels/simd/dispatch.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace bezel::kernels::simd {
namespace {

struct TileUnits {
  const TileProducts* products = nullptr;
  std::string why_not;
  bool is_wanted = true;  // no setting says otherwise
};

#if defined(__x86_64__) && defined(__linux__)

struct CpuId {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

CpuId cpuid(unsigned leaf, unsigned subleaf) {
  CpuId id;
  if (__get_cpuid_count(leaf, subleaf, &id.eax, &id.ebx, &id.ecx, &id.edx) == 0) return {};
  return id;
}

// What the system saves of a thread's registers: XCR0.
std::uint64_t saved_state() {
  std::uint32_t low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return std::uint64_t{high} << 32 | low;
}

// Intel SDM, volume 2, CPUID: leaf 7 names AMX-BF16 and AMX-TILE, leaf 1DH the shapes of palette 1. The system must
// save both the configuration and the tiles.
bool processor_has_tiles() {
  constexpr unsigned kOsXsave = 1u << 27, kAmxBf16 = 1u << 22, kAmxTile = 1u << 24;
  constexpr std::uint64_t kTileState = std::uint64_t{3} << 17;
  if ((cpuid(1, 0).ecx & kOsXsave) == 0 || (saved_state() & kTileState) != kTileState) return false;
  const unsigned features = cpuid(7, 0).edx;
  if ((features & kAmxBf16) == 0 || (features & kAmxTile) == 0) return false;
  const CpuId palette = cpuid(0x1d, 1);
  return palette.eax >> 16 == kTileRows * kTileStride && (palette.ebx & 0xffff) == kTileStride &&
         palette.ebx >> 16 == kTiles && (palette.ecx & 0xffff) == kTileRows;
}

// Linux lets a process use tiles once it has asked; its threads and what it forks may, too.
bool kernel_permits_tiles() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

// ONEDNN_MAX_CPU_ISA, by which LibTorch's products are held back, holds for ours too.
bool may_use_amx() {
  const char* const given = std::getenv("ONEDNN_MAX_CPU_ISA");
  const std::string_view limit = given == nullptr ? "" : given;
  return limit.empty() || limit == "ALL" || limit == "DEFAULT" || limit.find("AMX") != limit.npos;
}

TileUnits find_tile_units(bool wanted) {
  if (!processor_has_tiles()) return {};
  const TileProducts* const products = amx_tile_products();
  if (products == nullptr) return {nullptr, "the compiler that built Bezel does not know AMX"};
  if (!wanted) return {nullptr, "BEZEL_TILE_UNITS=0", false};
  if (!may_use_amx() || !has_bf16_products())
    return {nullptr, "ONEDNN_MAX_CPU_ISA or ATEN_CPU_CAPABILITY holds them back", false};
  if (!kernel_permits_tiles())
    return {nullptr, std::string("the kernel does not permit them: ") + std::strerror(errno)};
  if (!are_right(*products)) return {nullptr, "a product of theirs is wrong here; please report this"};
  return {products, ""};
}

#else

TileUnits find_tile_units(bool /*wanted*/) { return {}; }

#endif

const TileUnits& found() {
  static const TileUnits units = find_tile_units(wants_tile_units(std::getenv("BEZEL_TILE_UNITS")));
  return units;
}

std::atomic<const TileProducts*> replaced{nullptr};  // by ScopedTileProducts

// Of the region that this thread is in.
thread_local const TileProducts* active = nullptr;

// What is multiplied to see whether products are right: tails in every direction, rows that are apart.
struct Sample {
  static constexpr std::int64_t kRows = 52, kColumns = 48, kInner = 102, kGap = 5;
  std::vector<Bf16> a, b;
  std::vector<float> c;

  Sample() : a(kRows * (kInner + kGap)), b(kInner * (kColumns + kGap)), c(kRows * (kColumns + kGap)) {
    std::uint32_t state = 1;
    const auto next = [&state] {
      state = state * 1664525u + 1013904223u;
      return static_cast<float>(state >> 8) / static_cast<float>(1 << 23) - 1.0f;
    };
    for (Bf16& value : a) value = narrow(next());
    for (Bf16& value : b) value = narrow(next());
    for (float& value : c) value = next();
  }

  TileProduct product(float* to, bool add) const {
    return by_rows(
        {a.data(), b.data(), to, kRows, kColumns, kInner, kInner + kGap, kColumns + kGap, kColumns + kGap, add});
  }

  bool is_product(const std::vector<float>& got, bool add) const {
    for (std::int64_t row = 0; row < kRows; ++row)
      for (std::int64_t column = 0; column < kColumns + kGap; ++column) {
        const std::int64_t at = row * (kColumns + kGap) + column;
        double sum = add ? c[at] : 0.0, size = std::fabs(sum);
        for (std::int64_t i = 0; i < kInner && column < kColumns; ++i) {
          const double term = static_cast<double>(widen(a[row * (kInner + kGap) + i])) *
                              widen(b[i / 2 * 2 * (kColumns + kGap) + 2 * column + i % 2]);
          sum += term, size += std::fabs(term);
        }
        if (column >= kColumns ? got[at] != c[at] : !(std::fabs(got[at] - sum) <= 1e-5 * size)) return false;
      }
    return true;
  }
};

}  // namespace

bool wants_tile_units(const char* given) {
  const std::string_view value = given == nullptr ? "" : given;
  if (value.empty() || value == "1") return true;
  if (value == "0") return false;
  throw Error(ErrorKind::kConfig, "the environment variable BEZEL_TILE_UNITS is '", value,
              "', expected 1 (use AMX where the processor has it) or 0 (leave it to LibTorch)");
}

bool are_right(const TileProducts& products) {
  const Sample sample;
  for (const bool add : {false, true}) {
    std::vector<float> sums = sample.c;
    products.configure();
    products.product(sample.product(sums.data(), add));
    products.release();
    if (!sample.is_product(sums, add)) return false;
  }
  return true;
}

const TileProducts* tile_products() {
  const TileProducts* const other = replaced.load(std::memory_order_relaxed);
  return other != nullptr ? other : found().products;
}

std::string why_no_tile_products() { return found().why_not; }

std::string tile_units_fault() { return found().is_wanted ? found().why_not : ""; }

TileRegion::TileRegion() : is_outermost_(active == nullptr && tile_products() != nullptr) {
  if (!is_outermost_) return;
  active = tile_products();
  active->configure();
}

TileRegion::~TileRegion() {
  if (is_outermost_) std::exchange(active, nullptr)->release();
}

void multiply(const Product& p) { active == nullptr ? products().product(p) : active->product(by_rows(p)); }

void multiply(const TileProduct& p) {
  TORCH_CHECK(active != nullptr, "a product by tile units outside of a TileRegion");
  active->product(p);
}

ScopedTileProducts::ScopedTileProducts(const TileProducts& products) { replaced = &products; }

ScopedTileProducts::~ScopedTileProducts() { replaced = nullptr; }

}  // namespace bezel::kernels::simd
