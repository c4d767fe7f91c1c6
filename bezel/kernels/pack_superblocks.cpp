#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "bezel/kernels/pack_blocks.h"

// How ggml searches the scales of its K types: every sum below is taken in its order, since another order rounds
// otherwise and may find another scale.
namespace bezel::kernels {
namespace {

constexpr int kSuperblock = 256;
constexpr float kNothing = 1e-15f;  // magnitudes below it count as zero

// A block whose values are scale * code + minimum.
struct Affine {
  float scale = 0.0f;
  float minimum = 0.0f;  // at most 0
};

// The fit of a block of 32 by codes 0 to `most`: tries `steps` + 1 further scales from first_step on, `step` apart in
// codes, with the scale and minimum of least weighted squares for each.
struct AffineSearch {
  int most;
  float first_step;
  float step = 0.1f;
  int steps;
};

constexpr int kBlock = 32;
constexpr int kBlocks = kSuperblock / kBlock;

using Weights = std::array<float, kBlock>;

// Large values get more weight in the error.
Weights weights_of(const float* x) {
  float squares = 0.0f;
  for (int i = 0; i < kBlock; ++i) squares += x[i] * x[i];
  const float typical = std::sqrt(squares / kBlock);
  Weights weights;
  for (int i = 0; i < kBlock; ++i) weights[static_cast<std::size_t>(i)] = typical + std::fabs(x[i]);
  return weights;
}

class AffineFit {
 public:
  AffineFit(const float* x, const AffineSearch& search) : x_(x), search_(search), weights_(weights_of(x)) {
    smallest_ = largest_ = x[0];
    weight_sum_ = weights_[0];
    value_sum_ = weight_sum_ * x[0];
    for (int i = 1; i < kBlock; ++i) {
      smallest_ = std::min(smallest_, x[i]);
      largest_ = std::max(largest_, x[i]);
      weight_sum_ += weight(i);
      value_sum_ += weight(i) * x[i];
    }
    smallest_ = std::min(smallest_, 0.0f);
  }

  /// The best fit; `codes` gets its codes.
  Affine run(std::uint8_t* codes) {
    if (largest_ == smallest_) {
      std::fill_n(codes, kBlock, std::uint8_t{0});
      return {0.0f, smallest_};
    }
    Affine fit{};
    const float inverse = static_cast<float>(search_.most) / (largest_ - smallest_);
    fit.scale = 1.0f / inverse;
    fit.minimum = smallest_;
    encode(inverse, smallest_, codes);
    float least = error(fit, codes);
    for (int step = 0; step <= search_.steps; ++step) {
      // The best minimum so far is where the next codes are counted from.
      const float levels =
          search_.first_step + search_.step * static_cast<float>(step) + static_cast<float>(search_.most);
      std::uint8_t tried[kBlock];
      encode(levels / (largest_ - fit.minimum), fit.minimum, tried);
      Affine found{};
      if (!solve(tried, found)) continue;
      if (const float off = error(found, tried); off < least) {
        std::copy_n(tried, kBlock, codes);
        least = off;
        fit = found;
      }
    }
    return fit;
  }

 private:
  float weight(int i) const { return weights_[static_cast<std::size_t>(i)]; }

  void encode(float inverse, float minimum, std::uint8_t* codes) const {
    for (int i = 0; i < kBlock; ++i)
      codes[i] = static_cast<std::uint8_t>(std::clamp(nearest_whole(inverse * (x_[i] - minimum)), 0, search_.most));
  }

  float error(const Affine& fit, const std::uint8_t* codes) const {
    float sum = 0.0f;
    for (int i = 0; i < kBlock; ++i) {
      const float off = fit.scale * static_cast<float>(codes[i]) + fit.minimum - x_[i];
      sum += weight(i) * (off * off);
    }
    return sum;
  }

  // Least squares for given codes; false where they determine nothing.
  bool solve(const std::uint8_t* codes, Affine& fit) const {
    float code_sum = 0.0f, square_sum = 0.0f, product_sum = 0.0f;
    for (int i = 0; i < kBlock; ++i) {
      const float code = static_cast<float>(codes[i]), weighted = weight(i) * code;
      code_sum += weighted;
      square_sum += weighted * code;
      product_sum += weighted * x_[i];
    }
    const float determinant = weight_sum_ * square_sum - code_sum * code_sum;
    if (!(determinant > 0)) return false;
    fit.scale = (weight_sum_ * product_sum - value_sum_ * code_sum) / determinant;
    fit.minimum = (square_sum * value_sum_ - code_sum * product_sum) / determinant;
    if (fit.minimum > 0) fit = {product_sum / square_sum, 0.0f};
    return true;
  }

  const float* x_;
  const AffineSearch& search_;
  Weights weights_;
  float smallest_, largest_, weight_sum_, value_sum_;
};

// Scales and minima of eight blocks in 6 bits each: 12 bytes, as ggml lays them out.
struct PackedScales {
  std::array<std::uint8_t, kBlocks> scales, minima;

  void put(std::uint8_t* out) const {
    for (std::size_t i = 0; i < 4; ++i) {
      out[i] = static_cast<std::uint8_t>(scales[i] | (scales[i + 4] >> 4) << 6);
      out[i + 4] = static_cast<std::uint8_t>(minima[i] | (minima[i + 4] >> 4) << 6);
      out[i + 8] = static_cast<std::uint8_t>((scales[i + 4] & 15) | (minima[i + 4] & 15) << 4);
    }
  }
};

std::uint8_t six_bits(float value) {
  return static_cast<std::uint8_t>(std::min(63, static_cast<int>(static_cast<std::uint8_t>(nearest_whole(value)))));
}

// Fits the blocks, rounds their scales to the stored type and quantizes again with those.
void pack_affine(const float* x, const AffineSearch& search, std::uint8_t* head, std::uint8_t* codes) {
  std::array<Affine, kBlocks> fits;
  Affine most{};  // the largest scale, and of what is subtracted the largest
  for (std::size_t block = 0; block < kBlocks; ++block) {
    fits[block] = AffineFit(x + block * kBlock, search).run(codes + block * kBlock);
    most.scale = std::max(most.scale, fits[block].scale);
    most.minimum = std::max(most.minimum, -fits[block].minimum);
  }
  const float to_scale = most.scale > 0 ? 63.0f / most.scale : 0.0f;
  const float to_minimum = most.minimum > 0 ? 63.0f / most.minimum : 0.0f;
  PackedScales packed;
  for (std::size_t block = 0; block < kBlocks; ++block) {
    packed.scales[block] = six_bits(to_scale * fits[block].scale);
    packed.minima[block] = six_bits(to_minimum * -fits[block].minimum);
  }
  const float scale_unit = put_half(most.scale / 63.0f, head), minimum_unit = put_half(most.minimum / 63.0f, head + 2);
  packed.put(head + 4);
  for (std::size_t block = 0; block < kBlocks; ++block) {
    const float scale = scale_unit * packed.scales[block], minimum = minimum_unit * packed.minima[block];
    if (scale == 0.0f) continue;  // the codes of the fit stay, as in ggml
    for (std::size_t i = block * kBlock; i < (block + 1) * kBlock; ++i)
      codes[i] = static_cast<std::uint8_t>(std::clamp(nearest_whole((x[i] + minimum) / scale), 0, search.most));
  }
}

// Lower halves of bytes, then upper ones, of 64 codes at a time.
void put_nibbles(const std::uint8_t* codes, std::uint8_t* out) {
  for (int begin = 0; begin < kSuperblock; begin += 64)
    for (int i = 0; i < 32; ++i)
      *out++ = static_cast<std::uint8_t>((codes[begin + i] & 15) | (codes[begin + 32 + i] & 15) << 4);
}

void pack_q4_k(const float* x, std::uint8_t* out) {
  constexpr AffineSearch kSearch{.most = 15, .first_step = -1.0f, .steps = 20};
  std::uint8_t codes[kSuperblock];
  pack_affine(x, kSearch, out, codes);
  put_nibbles(codes, out + 16);
}

void pack_q5_k(const float* x, std::uint8_t* out) {
  constexpr AffineSearch kSearch{.most = 31, .first_step = -0.5f, .steps = 15};
  std::uint8_t codes[kSuperblock];
  pack_affine(x, kSearch, out, codes);
  for (int i = 0; i < kBlock; ++i) {
    unsigned fifth = 0;
    for (int block = 0; block < kBlocks; ++block)
      fifth |= static_cast<unsigned>(codes[block * kBlock + i] >> 4) << block;
    out[16 + i] = static_cast<std::uint8_t>(fifth);
  }
  put_nibbles(codes, out + 48);
}

constexpr int kGroup = 16;  // values that share a scale of Q6_K
constexpr int kGroups = kSuperblock / kGroup;
constexpr int kMiddle = 32;  // codes of Q6_K are -32 to 31

int group_code(float value) { return std::clamp(nearest_whole(value), -kMiddle, kMiddle - 1); }

// Sums over a group for the scale of least squares, each value weighted by its square.
struct GroupSums {
  float products = 0.0f;  // of value and code
  float squares = 0.0f;   // of codes

  GroupSums(const float* x, float inverse) {
    for (int i = 0; i < kGroup; ++i) {
      const float weight = x[i] * x[i], whole = static_cast<float>(group_code(inverse * x[i]));
      products += weight * x[i] * whole;
      squares += weight * whole * whole;
    }
  }
};

// The best scale of a group among 19, and what its codes were found with; zeros for a group of zeros.
struct GroupFit {
  float scale = 0.0f;
  float inverse = 0.0f;
};

GroupFit fit_group(const float* x) {
  const float extreme = extreme_of(x, kGroup);
  if (std::fabs(extreme) < kNothing) return {};
  GroupFit fit{.inverse = static_cast<float>(-kMiddle) / extreme};
  const GroupSums first(x, fit.inverse);
  fit.scale = first.squares != 0.0f ? first.products / first.squares : 0.0f;
  float best = fit.scale * first.products;
  for (int step = -9; step <= 9; ++step) {
    if (step == 0) continue;
    const float inverse = -(static_cast<float>(kMiddle) + 0.1f * static_cast<float>(step)) / extreme;
    const GroupSums sums(x, inverse);
    if (sums.squares > 0 && sums.products * sums.products > best * sums.squares) {
      fit = {sums.products / sums.squares, inverse};
      best = fit.scale * sums.products;
    }
  }
  return fit;
}

// Codes 0 to 63 in two parts: their lower four bits, and the upper two of four codes to a byte.
void put_six_bits(const std::uint8_t* codes, std::uint8_t* lower, std::uint8_t* upper) {
  for (int begin = 0; begin < kSuperblock; begin += 128, lower += 64, upper += 32)
    for (int i = 0; i < 32; ++i) {
      const std::uint8_t* at = codes + begin + i;
      lower[i] = static_cast<std::uint8_t>((at[0] & 15) | (at[64] & 15) << 4);
      lower[i + 32] = static_cast<std::uint8_t>((at[32] & 15) | (at[96] & 15) << 4);
      upper[i] = static_cast<std::uint8_t>(at[0] >> 4 | at[32] >> 4 << 2 | at[64] >> 4 << 4 | at[96] >> 4 << 6);
    }
}

void pack_q6_k(const float* x, std::uint8_t* out) {
  constexpr std::size_t kBytes = 210, kUpper = 128, kScales = 192, kUnit = 208;
  std::array<GroupFit, kGroups> fits;
  float extreme = 0.0f;
  for (std::size_t group = 0; group < kGroups; ++group) {
    fits[group] = fit_group(x + group * kGroup);
    if (std::fabs(fits[group].scale) > std::fabs(extreme)) extreme = fits[group].scale;
  }
  if (std::fabs(extreme) < kNothing) {
    std::memset(out, 0, kBytes);
    return;
  }
  const float inverse = -128.0f / extreme;
  const float unit = put_half(1.0f / inverse, out + kUnit);
  std::uint8_t codes[kSuperblock];
  for (std::size_t group = 0; group < kGroups; ++group) {
    const int whole = std::min(127, nearest_whole(inverse * fits[group].scale));
    out[kScales + group] = static_cast<std::uint8_t>(static_cast<std::int8_t>(whole));
    const float scale = unit * static_cast<float>(whole);
    const bool zeros = fits[group].inverse == 0.0f;
    for (std::size_t i = group * kGroup; i < (group + 1) * kGroup; ++i) {
      // Where the scale rounds to zero the codes of the fit stay, as in ggml.
      const int code = group_code(scale != 0.0f ? x[i] / scale : x[i] * fits[group].inverse);
      codes[i] = static_cast<std::uint8_t>(scale == 0.0f && zeros ? 0 : code + kMiddle);
    }
  }
  put_six_bits(codes, out, out + kUpper);
}

}  // namespace

PackBlock superblock_packer(io::GgufType type) {
  switch (type) {
    case io::GgufType::kQ4_K:
      return pack_q4_k;
    case io::GgufType::kQ5_K:
      return pack_q5_k;
    default:
      return pack_q6_k;
  }
}

}  // namespace bezel::kernels
