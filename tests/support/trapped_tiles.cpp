#include "tests/support/trapped_tiles.h"

#include <cstdint>
#include <cstring>

#include <gtest/gtest.h>
#include <ucontext.h>

#include "bezel/kernels/simd/tile_model.h"

namespace bezel::test {

#if defined(__x86_64__) && defined(__linux__)

namespace {

thread_local kernels::simd::TileModel model;
thread_local long instructions = 0;

// By the number that an instruction has for it.
std::int64_t general_register(const ucontext_t& context, int number) {
  constexpr int kPlaces[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                               REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  return context.uc_mcontext.gregs[kPlaces[number]];
}

// An instruction with a VEX prefix of three bytes (Intel SDM, volume 2, chapter 2).
struct Instruction {
  int map, prefix, wide_and_length, third, opcode, mode, reg, rm;
  std::int64_t base = 0, index = 0;  // of the operand in memory; the index scaled
  std::int64_t bytes = 5;
};

// The operand in memory, behind the byte of registers.
void read_memory_operand(const std::uint8_t* code, const ucontext_t& context, Instruction& found) {
  const int extends_index = (~code[1] >> 6) & 1, extends_base = (~code[1] >> 5) & 1;
  const std::uint8_t* at = code + 5;
  int base = found.rm;
  if (found.rm == 4) {
    const int sib = *at++, index = (sib >> 3 & 7) + 8 * extends_index;
    base = sib & 7;
    if (index != 4) found.index = general_register(context, index) << (sib >> 6);
  }
  const bool is_bare = found.mode == 0 && base == 5;  // a displacement alone, or behind RIP
  std::int32_t far = 0;
  if (found.mode == 1) far = static_cast<std::int8_t>(*at++);
  if (found.mode == 2 || is_bare) std::memcpy(&far, at, 4), at += 4;
  found.bytes = at - code;
  found.base = far;
  if (!is_bare)
    found.base += general_register(context, base + 8 * extends_base);
  else if (found.rm == 5)
    found.base += context.uc_mcontext.gregs[REG_RIP] + found.bytes;
}

Instruction decode(const std::uint8_t* code, const ucontext_t& context) {
  Instruction found{.map = code[1] & 31,
                    .prefix = code[2] & 3,
                    .wide_and_length = code[2] & 0x84,
                    .third = ~code[2] >> 3 & 15,
                    .opcode = code[3],
                    .mode = code[4] >> 6,
                    .reg = code[4] >> 3 & 7,
                    .rm = code[4] & 7};
  if (found.mode != 3) read_memory_operand(code, context, found);
  return found;
}

// False for any other instruction.
bool run(const Instruction& i) {
  constexpr int kNone = 0, kF3 = 2, kF2 = 3;
  const bool in_memory = i.mode != 3;
  void* const base = reinterpret_cast<void*>(i.base);
  if (i.map != 2 || i.wide_and_length != 0) return false;
  if (i.opcode == 0x49 && i.prefix == kNone && in_memory && i.reg == 0) {
    kernels::simd::TileConfig config;
    std::memcpy(&config, base, sizeof config);
    model.configure(config);
  } else if (i.opcode == 0x49 && i.prefix == kNone && !in_memory && i.reg == 0 && i.rm == 0) {
    model.release();
  } else if (i.opcode == 0x49 && i.prefix == kF2 && !in_memory && i.rm == 0) {
    model.zero(i.reg);
  } else if (i.opcode == 0x4b && i.prefix == kF2 && in_memory && i.rm == 4) {
    model.load(i.reg, base, i.index);
  } else if (i.opcode == 0x4b && i.prefix == kF3 && in_memory && i.rm == 4) {
    model.store(i.reg, base, i.index);
  } else if (i.opcode == 0x5c && i.prefix == kF3 && !in_memory) {
    model.dot(i.reg, i.rm, i.third);
  } else {
    return false;
  }
  return true;
}

void on_illegal_instruction(int /*signal*/, siginfo_t* /*info*/, void* given) {
  auto& context = *static_cast<ucontext_t*>(given);
  const auto* code = reinterpret_cast<const std::uint8_t*>(context.uc_mcontext.gregs[REG_RIP]);
  if (code[0] == 0xc4) {
    const Instruction found = decode(code, context);
    if (run(found)) {
      ++instructions;
      context.uc_mcontext.gregs[REG_RIP] += found.bytes;
      return;
    }
  }
  std::signal(SIGILL, SIG_DFL);  // run again, and ends the process
}

}  // namespace

bool TrappedTiles::works() { return true; }

TrappedTiles::TrappedTiles() {
  struct sigaction action = {};
  action.sa_sigaction = on_illegal_instruction;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  EXPECT_EQ(::sigaction(SIGILL, &action, &before_), 0);
}

TrappedTiles::~TrappedTiles() { EXPECT_EQ(::sigaction(SIGILL, &before_, nullptr), 0); }

long TrappedTiles::count() { return instructions; }

#else

bool TrappedTiles::works() { return false; }
TrappedTiles::TrappedTiles() = default;
TrappedTiles::~TrappedTiles() = default;
long TrappedTiles::count() { return 0; }

#endif

}  // namespace bezel::test
