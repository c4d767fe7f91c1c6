#include "bezel/io/sha256.h"

#include <algorithm>
#include <bit>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

#include "bezel/error.h"
#include "bezel/io/regular_file.h"

namespace bezel::io {
namespace {

constexpr std::array<std::uint32_t, 64> kRound = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

constexpr std::string_view kDigits = "0123456789abcdef";

std::uint32_t big_endian(const std::uint8_t* bytes) {
  return std::uint32_t{bytes[0]} << 24 | std::uint32_t{bytes[1]} << 16 | std::uint32_t{bytes[2]} << 8 | bytes[3];
}

int digit_value(char c) {
  const auto found = kDigits.find(c);
  return found == std::string_view::npos ? -1 : static_cast<int>(found);
}

using State = std::array<std::uint32_t, 8>;

void compress_plain(State& state, const std::uint8_t* block) {
  std::array<std::uint32_t, 64> w{};
  for (std::size_t i = 0; i < 16; ++i) w[i] = big_endian(block + 4 * i);
  for (std::size_t i = 16; i < 64; ++i) {
    const std::uint32_t s0 = std::rotr(w[i - 15], 7) ^ std::rotr(w[i - 15], 18) ^ w[i - 15] >> 3;
    const std::uint32_t s1 = std::rotr(w[i - 2], 17) ^ std::rotr(w[i - 2], 19) ^ w[i - 2] >> 10;
    w[i] = w[i - 16] + s0 + w[i - 7] + s1;
  }
  auto [a, b, c, d, e, f, g, h] = state;
  for (std::size_t i = 0; i < 64; ++i) {
    const std::uint32_t t1 =
        h + (std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25)) + ((e & f) ^ (~e & g)) + kRound[i] + w[i];
    const std::uint32_t t2 = (std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
    h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
  }
  const State add = {a, b, c, d, e, f, g, h};
  for (std::size_t i = 0; i < 8; ++i) state[i] += add[i];
}

#if defined(__x86_64__)
// The instructions keep a state as two vectors, (f, e, b, a) and (h, g, d, c) from the lowest lane up, and do two
// rounds at a time, for which they take the words with their constants from the two lowest lanes.
[[gnu::target("sha,sse4.1")]] void compress_sha(State& state, const std::uint8_t* block) {
  const auto words = [](void* at) { return static_cast<__m128i*>(at); };
  const __m128i first = _mm_shuffle_epi32(_mm_loadu_si128(words(&state[0])), 0xb1);   // b a d c
  const __m128i second = _mm_shuffle_epi32(_mm_loadu_si128(words(&state[4])), 0x1b);  // h g f e
  const __m128i old_feba = _mm_alignr_epi8(first, second, 8), old_hgdc = _mm_blend_epi16(second, first, 0xf0);
  __m128i feba = old_feba, hgdc = old_hgdc, w[4];
  const __m128i swap = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
  for (std::size_t i = 0; i < 4; ++i)
    w[i] = _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(block) + i), swap);
#pragma GCC unroll 16
  for (std::size_t i = 0; i < 16; ++i) {
    const __m128i sum = _mm_add_epi32(w[i % 4], _mm_loadu_si128(reinterpret_cast<const __m128i*>(&kRound[4 * i])));
    hgdc = _mm_sha256rnds2_epu32(hgdc, feba, sum);
    feba = _mm_sha256rnds2_epu32(feba, hgdc, _mm_shuffle_epi32(sum, 0x0e));
    if (i >= 12) continue;
    const __m128i last = w[(i + 3) % 4];
    const __m128i part =
        _mm_add_epi32(_mm_sha256msg1_epu32(w[i % 4], w[(i + 1) % 4]), _mm_alignr_epi8(last, w[(i + 2) % 4], 4));
    w[i % 4] = _mm_sha256msg2_epu32(part, last);
  }
  feba = _mm_shuffle_epi32(_mm_add_epi32(feba, old_feba), 0x1b);  // a b e f
  hgdc = _mm_shuffle_epi32(_mm_add_epi32(hgdc, old_hgdc), 0xb1);  // g h c d
  _mm_storeu_si128(words(&state[0]), _mm_blend_epi16(feba, hgdc, 0xf0));
  _mm_storeu_si128(words(&state[4]), _mm_alignr_epi8(hgdc, feba, 8));
}

// Leaf 7, subleaf 0: bit 29 of EBX.
bool has_sha() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b >> 29 & 1u) != 0 && __builtin_cpu_supports("sse4.1");
}
#endif

}  // namespace

Sha256::Sha256(bool plain) : compress_(compress_plain) {
#if defined(__x86_64__)
  static const bool fast = has_sha();
  if (fast && !plain) compress_ = compress_sha;
#else
  (void)plain;
#endif
}

void Sha256::update(const void* data, std::size_t size_bytes) {
  const auto* next = static_cast<const std::uint8_t*>(data);
  total_bytes_ += size_bytes;
  while (size_bytes > 0) {
    if (block_bytes_ == 0 && size_bytes >= block_.size()) {
      compress_(state_, next);
      next += block_.size();
      size_bytes -= block_.size();
      continue;
    }
    const std::size_t taken = std::min(size_bytes, block_.size() - block_bytes_);
    std::memcpy(block_.data() + block_bytes_, next, taken);
    block_bytes_ += taken;
    next += taken;
    size_bytes -= taken;
    if (block_bytes_ < block_.size()) break;
    compress_(state_, block_.data());
    block_bytes_ = 0;
  }
}

std::string Sha256::finish() {
  const std::uint64_t bits = total_bytes_ * 8;
  const std::uint8_t mark = 0x80, zero = 0;
  update(&mark, 1);
  while (block_bytes_ != 56) update(&zero, 1);
  std::array<std::uint8_t, 8> length{};
  for (std::size_t i = 0; i < 8; ++i) length[i] = static_cast<std::uint8_t>(bits >> (56 - 8 * i));
  update(length.data(), length.size());
  std::string digest;
  for (const std::uint32_t word : state_)
    for (const int shift : {24, 16, 8, 0}) digest += static_cast<char>(word >> shift);
  return to_hex(digest);
}

std::string sha256(std::string_view text) {
  Sha256 hash;
  hash.update(text);
  return hash.finish();
}

std::string sha256_file(const std::string& path) {
  const RegularFile file(path);
  Sha256 hash;
  std::string chunk(std::size_t{1} << 20, '\0');
  for (std::uint64_t offset = 0;;) {
    const std::size_t got = file.read(chunk.data(), chunk.size(), offset);
    hash.update(chunk.data(), got);
    if (got < chunk.size()) return hash.finish();
    offset += got;
  }
}

std::string to_hex(std::string_view bytes) {
  std::string text;
  text.reserve(2 * bytes.size());
  for (const char c : bytes) {
    text += kDigits[static_cast<unsigned char>(c) >> 4];
    text += kDigits[static_cast<unsigned char>(c) & 15];
  }
  return text;
}

std::string from_hex(std::string_view text, std::string_view source) {
  std::string bytes;
  bytes.reserve(text.size() / 2);
  for (std::size_t i = 0; i + 1 < text.size(); i += 2) {
    const int high = digit_value(text[i]), low = digit_value(text[i + 1]);
    if (high < 0 || low < 0) throw Error(source, ": not hexadecimal at digit ", i);
    bytes += static_cast<char>(high << 4 | low);
  }
  if (text.size() % 2 != 0) throw Error(source, ": ", text.size(), " hexadecimal digits, expected two a byte");
  return bytes;
}

}  // namespace bezel::io
