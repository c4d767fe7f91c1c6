#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "bezel/data/dataset.h"

namespace bezel::data {

/// Tokens that samples must have in common for these to become a segment: fewer are not worth a range of keys.
inline constexpr std::size_t kLeastShared = 16;
/// Segments that a sample may have before its own.
inline constexpr std::size_t kMostPrefixes = 3;

/// How many tokens `a` and `b` begin alike by, given that they do up to `from`: same ids, same media, and no
/// two labels for one of these positions to predict. A run of soft tokens is never cut.
std::size_t common_prefix(const Sample& a, const Sample& b, std::size_t from = 0);

/// Tokens that are computed once, although several samples may have them.
struct Segment {
  std::size_t sample = 0;               ///< the first of these samples
  std::size_t begin = 0;                ///< its first token in each of them
  std::size_t end = 0;                  ///< the token after the last
  std::size_t row_begin = 0;            ///< where in the row it begins
  std::vector<std::size_t> prefixes{};  ///< segments before it in its samples, first ones first

  std::size_t size() const { return end - begin; }
};

/// Lets items of media that are equal be the same tensors, so that they take memory once and compare at once.
void join_equal_media(std::span<Sample> samples);

/// Samples in one row, as a tree of segments.
struct SegmentTree {
  std::vector<Segment> segments;                ///< as they come in the row
  std::vector<std::vector<std::size_t>> paths;  ///< the segments that each sample consists of, first ones first

  std::size_t num_tokens() const { return segments.empty() ? 0 : segments.back().row_begin + segments.back().size(); }
};

/// Lays out samples so that what several of them begin alike by is there once: for one sample after the other the
/// prefixes that save most, at most kMostPrefixes of them.
SegmentTree share_prefixes(std::span<const Sample> samples, std::size_t least_shared = kLeastShared);

/// Puts samples into one row without padding, each apart from the others but for what they begin alike by, which is
/// there once (Batch::prefix_begin). Labels that such a prefix predicts are there once for each of its samples.
Batch collate_shared(std::span<const Sample> samples, std::size_t least_shared = kLeastShared);

}  // namespace bezel::data
