#include "bezel/data/packing.h"

#include <algorithm>
#include <numeric>
#include <random>

#include <gtest/gtest.h>

namespace bezel::data {
namespace {

using Sizes = std::vector<std::size_t>;

Sizes first_samples(std::size_t count) {
  Sizes samples(count);
  std::iota(samples.begin(), samples.end(), std::size_t{0});
  return samples;
}

std::vector<Sizes> rows_of(const SampleRows& packed) {
  std::vector<Sizes> rows;
  for (std::size_t r = 0; r < packed.size(); ++r) {
    const auto row = packed.rows(r, r + 1);
    rows.emplace_back(row.begin(), row.end());
  }
  return rows;
}

// The definition, read literally.
std::vector<Sizes> naive_rows(const Sizes& samples, const Sizes& lengths, std::size_t row_tokens) {
  Sizes places = first_samples(samples.size());
  std::stable_sort(places.begin(), places.end(),
                   [&](std::size_t a, std::size_t b) { return lengths[samples[a]] > lengths[samples[b]]; });
  std::vector<Sizes> rows;
  Sizes used;
  for (const std::size_t place : places) {
    const std::size_t length = lengths[samples[place]];
    std::size_t row = 0;
    while (row < rows.size() && used[row] + length > row_tokens) ++row;
    if (row == rows.size()) {
      rows.emplace_back();
      used.push_back(0);
    }
    rows[row].push_back(place);
    used[row] += length;
  }
  for (Sizes& row : rows) std::sort(row.begin(), row.end());
  std::sort(rows.begin(), rows.end());
  for (Sizes& row : rows)
    for (std::size_t& place : row) place = samples[place];
  return rows;
}

TEST(PackRows, LongestFirstEachIntoTheFirstRowWithRoom) {
  const Sizes lengths = {3, 7, 2, 5, 3};
  EXPECT_EQ(rows_of(pack_rows(first_samples(5), lengths, 10)), (std::vector<Sizes>{{0, 1}, {2, 3, 4}}));
}

TEST(PackRows, AgreesWithTheDefinition) {
  std::mt19937_64 random(5);
  for (int round = 0; round < 200; ++round) {
    Sizes lengths(random() % 60 + 1);
    for (std::size_t& length : lengths) length = random() % 40 + 1;
    Sizes samples = first_samples(lengths.size());
    std::shuffle(samples.begin(), samples.end(), random);
    samples.resize(random() % samples.size() + 1);  // some are held out
    const std::size_t row_tokens = 40 + random() % 60;
    EXPECT_EQ(rows_of(pack_rows(samples, lengths, row_tokens)), naive_rows(samples, lengths, row_tokens));
  }
}

// Epochs shuffle the samples; how many steps they have must not change with that.
TEST(PackRows, TheNumberOfRowsDependsOnTheLengthsAlone) {
  std::mt19937_64 random(6);
  Sizes lengths(300);
  for (std::size_t& length : lengths) length = random() % 1000 + 1;
  Sizes samples = first_samples(300);
  const std::size_t rows = pack_rows(samples, lengths, 1024).size();
  for (int round = 0; round < 20; ++round) {
    std::shuffle(samples.begin(), samples.end(), random);
    EXPECT_EQ(pack_rows(samples, lengths, 1024).size(), rows);
  }
}

TEST(PackRows, ASampleLongerThanARowGetsOneToItself) {
  EXPECT_EQ(rows_of(pack_rows(first_samples(3), Sizes{9, 12, 1}, 10)), (std::vector<Sizes>{{0, 2}, {1}}));
  EXPECT_EQ(pack_rows({}, {}, 10).size(), 0u);
}

TEST(SampleRows, SpansRowsAndStopsAtTheEnd) {
  const SampleRows rows = pack_rows(first_samples(3), Sizes{6, 6, 4}, 10);
  ASSERT_EQ(rows_of(rows), (std::vector<Sizes>{{0, 2}, {1}}));
  EXPECT_TRUE(std::ranges::equal(rows.rows(0, 2), Sizes{0, 2, 1}));
  EXPECT_TRUE(std::ranges::equal(rows.rows(1, 5), Sizes{1}));
  EXPECT_TRUE(rows.rows(2, 3).empty());
  EXPECT_EQ(rows_of(rows.in_order(Sizes{1, 0})), (std::vector<Sizes>{{1}, {0, 2}}));
  EXPECT_EQ(rows_of(one_a_row({4, 2})), (std::vector<Sizes>{{4}, {2}}));
}

}  // namespace
}  // namespace bezel::data
