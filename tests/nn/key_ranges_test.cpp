#include "bezel/nn/key_ranges.h"

#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/types.h>

namespace bezel::nn {
namespace {

using torch::Tensor;

std::int64_t at(const Tensor& table, std::int64_t b, std::int64_t t) { return table[b][t].item<std::int64_t>(); }

// Two rows of 10: two samples with images at a sample's end and start, padding at either end.
struct Rows {
  Tensor types = torch::tensor({{0, 0, 1, 1, 1, 1, 0, 2, 2, 3}, {1, 1, 1, 0, 1, 1, 1, 0, 0, 0}});
  Tensor run = torch::tensor({{-1, -1, 0, 0, 1, 1, -1, 2, 2, -1}, {0, 0, 0, -1, 1, 1, 1, -1, -1, -1}});
  Tensor sample = torch::tensor({{0, 0, 0, 0, 4, 4, 4, 4, 4, 4}, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0}});
  Tensor real = torch::tensor({{0, 1, 1, 1, 1, 1, 1, 1, 1, 1}, {1, 1, 1, 1, 1, 1, 1, 1, 0, 0}}).to(torch::kBool);
};

TEST(KeyRanges, FollowTheDefinitionOfTheMask) {
  const Rows rows;
  const Tensor ends = image_run_ends(rows.types, rows.sample);
  const Tensor asking = torch::tensor({{4, 9, 7}, {0, 5, 7}});
  for (const std::int64_t window : {0, 1, 3})
    for (const bool images : {false, true})
      for (const Tensor& queries : {Tensor(), asking}) {
        const KeyRanges ranges = key_ranges({.num_keys = 10,
                                             .window = window,
                                             .attention_mask = rows.real,
                                             .segment_start = rows.sample,
                                             .image_run_end = images ? ends : Tensor(),
                                             .queries = queries},
                                            torch::kCPU);
        const std::int64_t num_queries = queries.defined() ? 3 : 10;
        const Tensor seen = dense_mask(ranges, num_queries, 10, torch::kCPU);  // [2, Q, 10]
        ASSERT_EQ(seen.sizes(), (std::vector<std::int64_t>{2, num_queries, 10}));
        for (std::int64_t b = 0; b < 2; ++b)
          for (std::int64_t i = 0; i < num_queries; ++i)
            for (std::int64_t k = 0; k < 10; ++k) {
              const std::int64_t q = queries.defined() ? at(queries, b, i) : i;
              if (!rows.real[b][q].item<bool>()) continue;  // what padding sees is nobody's business
              const bool one_image = images && at(rows.run, b, q) >= 0 && at(rows.run, b, q) == at(rows.run, b, k);
              const bool wanted = (window == 0 || k > q - window) && (k <= q || one_image) &&
                                  at(rows.sample, b, q) == at(rows.sample, b, k) && rows.real[b][k].item<bool>();
              EXPECT_EQ(seen[b][i][k].item<bool>(), wanted) << b << " " << q << " " << k << " window " << window;
            }
      }
}

// The rule of the unified model: (k <= q and k > q - window) or both in one image.
TEST(KeyRanges, WholeImagesFollowTheDefinitionOfTheMask) {
  const Rows rows;
  const Tensor ends = image_run_ends(rows.types, rows.sample), begins = image_run_begins(ends);
  for (const std::int64_t window : {0, 1, 2, 3})
    for (const Tensor& queries : {Tensor(), torch::tensor({{4, 9, 8}, {0, 2, 6}})}) {
      const KeyRanges ranges = key_ranges({.num_keys = 10,
                                           .window = window,
                                           .attention_mask = rows.real,
                                           .segment_start = rows.sample,
                                           .image_run_end = ends,
                                           .image_run_begin = begins,
                                           .queries = queries},
                                          torch::kCPU);
      const std::int64_t num_queries = queries.defined() ? 3 : 10;
      const Tensor seen = dense_mask(ranges, num_queries, 10, torch::kCPU);
      for (std::int64_t b = 0; b < 2; ++b)
        for (std::int64_t i = 0; i < num_queries; ++i)
          for (std::int64_t k = 0; k < 10; ++k) {
            const std::int64_t q = queries.defined() ? at(queries, b, i) : i;
            if (!rows.real[b][q].item<bool>()) continue;
            const bool one_image = at(rows.run, b, q) >= 0 && at(rows.run, b, q) == at(rows.run, b, k);
            const bool wanted = ((k <= q && (window == 0 || k > q - window)) || one_image) &&
                                at(rows.sample, b, q) == at(rows.sample, b, k) && rows.real[b][k].item<bool>();
            EXPECT_EQ(seen[b][i][k].item<bool>(), wanted) << b << " " << q << " " << k << " window " << window;
          }
    }
}

// A row of segments, each behind the segments of its prefix.
struct SegmentRow {
  struct Segment {
    std::int64_t begin, end;
    std::vector<std::size_t> prefixes;
  };
  std::vector<Segment> segments;
  std::int64_t size = segments.back().end;
  Tensor start = torch::zeros({1, size}, at::kLong);
  Tensor prefix_begin = torch::zeros({2, 1, size}, at::kLong), prefix_end = torch::zeros({2, 1, size}, at::kLong);
  std::vector<std::vector<std::int64_t>> path;  // of each place, the places of its sample up to the end of its segment

  explicit SegmentRow(std::vector<Segment> given) : segments(std::move(given)) {
    for (const Segment& segment : segments) {
      const auto fill = [&](const Tensor& row, std::int64_t value) {
        row.narrow(0, segment.begin, segment.end - segment.begin).fill_(value);
      };
      fill(start[0], segment.begin);
      std::vector<std::int64_t> places;
      const auto append = [&](const Segment& of) {
        for (std::int64_t place = of.begin; place < of.end; ++place) places.push_back(place);
      };
      for (std::size_t i = 0; i < segment.prefixes.size(); ++i) {
        const Segment& prefix = segments[segment.prefixes[i]];
        fill(prefix_begin[static_cast<std::int64_t>(i)][0], prefix.begin);
        fill(prefix_end[static_cast<std::int64_t>(i)][0], prefix.end);
        append(prefix);
      }
      append(segment);
      for (std::int64_t place = segment.begin; place < segment.end; ++place) path.push_back(places);
    }
  }
};

// Two trees, one of them three levels deep, and a sample by itself.
SegmentRow segment_row() {
  return SegmentRow({{0, 5, {}},
                     {5, 7, {0}},
                     {7, 11, {0}},
                     {11, 12, {0, 2}},
                     {12, 15, {0, 2}},
                     {15, 16, {0}},
                     {16, 19, {}},
                     {19, 21, {6}},
                     {21, 22, {6}},
                     {22, 26, {}}});
}

TEST(KeyRanges, SegmentsAreSeenAsInARowOfTheirSampleAlone) {
  const SegmentRow row = segment_row();
  const Tensor asking = torch::tensor({{4, 25, 13, 5, 20, 14, 11}});
  for (const std::int64_t window : {0, 1, 2, 4, 6, 40})
    for (const Tensor& queries : {Tensor(), asking}) {
      const KeyRanges ranges = key_ranges({.num_keys = row.size,
                                           .window = window,
                                           .segment_start = row.start,
                                           .queries = queries,
                                           .prefix_begin = row.prefix_begin,
                                           .prefix_end = row.prefix_end},
                                          torch::kCPU);
      EXPECT_FALSE(ranges.causal);
      const std::int64_t num_queries = queries.defined() ? queries.size(1) : row.size;
      const Tensor seen = dense_mask(ranges, num_queries, row.size, torch::kCPU);
      for (std::int64_t i = 0; i < num_queries; ++i) {
        const std::int64_t q = queries.defined() ? at(queries, 0, i) : i;
        const auto& path = row.path[static_cast<std::size_t>(q)];
        const auto place_of = [&](std::int64_t place) { return std::ranges::find(path, place) - path.begin(); };
        const std::int64_t position = place_of(q);
        for (std::int64_t k = 0; k < row.size; ++k) {
          const std::int64_t key = place_of(k);
          const bool wanted = key < std::ssize(path) && key <= position && (window == 0 || key > position - window);
          EXPECT_EQ(seen[0][i][k].item<bool>(), wanted) << q << " " << k << " window " << window;
        }
      }
    }
}

TEST(KeyRanges, CountThePastAmongTheKeysOfWholeImages) {
  const Tensor ends = image_run_ends(torch::tensor({{0, 1, 1, 1}}));
  const KeyRanges ranges = key_ranges(
      {.num_keys = 9, .num_past = 5, .window = 2, .image_run_end = ends, .image_run_begin = image_run_begins(ends)},
      torch::kCPU);
  EXPECT_TRUE(torch::equal(ranges.first, torch::tensor({{4, 5, 6, 6}})));
  EXPECT_TRUE(torch::equal(ranges.end, torch::tensor({{6, 9, 9, 9}})));
}

TEST(KeyRanges, CountThePastAmongTheKeys) {
  const Tensor ends = image_run_ends(torch::tensor({{0, 1, 1, 0}}));
  const KeyRanges ranges = key_ranges({.num_keys = 9, .num_past = 5, .window = 3, .image_run_end = ends}, torch::kCPU);
  EXPECT_TRUE(torch::equal(ranges.first, torch::tensor({{3, 4, 5, 6}})));
  EXPECT_TRUE(torch::equal(ranges.end, torch::tensor({{6, 8, 8, 9}})));
}

TEST(KeyRanges, SayWhereTheyArePlainlyCausal) {
  EXPECT_TRUE(key_ranges({.num_keys = 6, .window = 6}, torch::kCPU).causal);
  EXPECT_FALSE(key_ranges({.num_keys = 7, .window = 6}, torch::kCPU).causal);
  EXPECT_FALSE(key_ranges({.num_keys = 6, .num_past = 1}, torch::kCPU).causal);
  EXPECT_FALSE(key_ranges({.num_keys = 2, .queries = torch::tensor({{0, 1}})}, torch::kCPU).causal);
  const Tensor causal = dense_mask({.causal = true}, 4, 4, torch::kCPU);
  EXPECT_TRUE(torch::equal(causal[0], torch::ones({4, 4}, at::kBool).tril()));
}

}  // namespace
}  // namespace bezel::nn
