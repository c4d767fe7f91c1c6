#include "bezel/generate/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include <gtest/gtest.h>

#include "support/temp_folder.h"

namespace bezel::generate {
namespace {

std::vector<float> logits_of(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p)) + 1.5f);
  return logits;
}

void expect_distribution(const std::vector<Candidate>& got, const std::map<std::int64_t, double>& wanted) {
  ASSERT_EQ(got.size(), wanted.size());
  double before = std::numeric_limits<double>::infinity();
  for (const Candidate& candidate : got) {
    ASSERT_TRUE(wanted.contains(candidate.token)) << candidate.token;
    EXPECT_NEAR(candidate.probability, wanted.at(candidate.token), 1e-6) << candidate.token;
    EXPECT_LE(candidate.probability, before);
    before = candidate.probability;
  }
}

const std::vector<float> kLogits = logits_of({0.1, 0.4, 0.05, 0.25, 0.2});

TEST(Sampler, NeverDrawsWhatIsSuppressed) {
  for (const bool greedy : {true, false}) {
    Sampler sampler({.greedy = greedy, .suppress_tokens = {1, 4, 99}}, 3);
    std::map<std::int64_t, int> drawn;
    for (int i = 0; i < 400; ++i) ++drawn[sampler.next(kLogits)];
    EXPECT_FALSE(drawn.contains(1) || drawn.contains(4));
    EXPECT_EQ(drawn.contains(0), !greedy);  // 3 is the most probable one left
    EXPECT_GT(drawn[3], 150);
  }
  EXPECT_THROW(Sampler({.suppress_tokens = {0, 1, 2, 3, 4}}, 3).next(kLogits), Error);
}

TEST(Distribution, WithoutLimitsIsSoftmax) {
  expect_distribution(distribution(kLogits, {.greedy = false}), {{0, 0.1}, {1, 0.4}, {2, 0.05}, {3, 0.25}, {4, 0.2}});
}

TEST(Distribution, TemperatureRaisesProbabilitiesToItsInverse) {
  // p^2 / sum p^2 with sum = 0.01 + 0.16 + 0.0025 + 0.0625 + 0.04 = 0.275
  expect_distribution(
      distribution(kLogits, {.greedy = false, .temperature = 0.5}),
      {{0, 0.01 / 0.275}, {1, 0.16 / 0.275}, {2, 0.0025 / 0.275}, {3, 0.0625 / 0.275}, {4, 0.04 / 0.275}});
}

TEST(Distribution, TopKKeepsTheKMostProbable) {
  expect_distribution(distribution(kLogits, {.greedy = false, .top_k = 2}), {{1, 0.4 / 0.65}, {3, 0.25 / 0.65}});
  expect_distribution(distribution(kLogits, {.greedy = false, .top_k = 1}), {{1, 1.0}});
  EXPECT_EQ(distribution(kLogits, {.greedy = false, .top_k = 5}).size(), 5u);
  EXPECT_EQ(distribution(kLogits, {.greedy = false, .top_k = 50}).size(), 5u);
}

TEST(Distribution, TopKKeepsEqualsOfTheKth) {
  const std::vector<float> equal = logits_of({0.2, 0.5, 0.2, 0.1});
  expect_distribution(distribution(equal, {.greedy = false, .top_k = 2}), {{1, 5.0 / 9}, {0, 2.0 / 9}, {2, 2.0 / 9}});
}

TEST(Distribution, TopPKeepsTokensUntilTheirSumReachesP) {
  // In order: 0.4, 0.65, 0.85, 0.95, 1.
  expect_distribution(distribution(kLogits, {.greedy = false, .top_p = 0.39}), {{1, 1.0}});
  expect_distribution(distribution(kLogits, {.greedy = false, .top_p = 0.6}), {{1, 0.4 / 0.65}, {3, 0.25 / 0.65}});
  expect_distribution(distribution(kLogits, {.greedy = false, .top_p = 0.7}),
                      {{1, 0.4 / 0.85}, {3, 0.25 / 0.85}, {4, 0.2 / 0.85}});
  EXPECT_EQ(distribution(kLogits, {.greedy = false, .top_p = 1e-9}).size(), 1u);
}

TEST(Distribution, TopPComesAfterTemperatureAndTopK) {
  // Top 3 at temperature 0.5: 0.16, 0.0625, 0.04 of 0.2625, that is 0.61, 0.24, 0.15.
  expect_distribution(distribution(kLogits, {.greedy = false, .temperature = 0.5, .top_k = 3, .top_p = 0.7}),
                      {{1, 0.16 / 0.2225}, {3, 0.0625 / 0.2225}});
}

TEST(Distribution, TokensRuledOutHaveNoProbability) {
  const std::vector<float> some{1.0f, -std::numeric_limits<float>::infinity(), 1.0f};
  Sampler sampler({.greedy = false}, 5);
  for (int i = 0; i < 200; ++i) EXPECT_NE(sampler.next(some), 1);
}

TEST(Sampler, DrawsWithTheProbabilitiesOfTheDistribution) {
  const SamplingOptions options{.greedy = false, .temperature = 0.8, .top_k = 4, .top_p = 0.97};
  Sampler sampler(options, 17);
  constexpr int kDraws = 40000;
  std::map<std::int64_t, int> counts;
  for (int i = 0; i < kDraws; ++i) ++counts[sampler.next(kLogits)];
  double chi_square = 0.0;
  const auto wanted = distribution(kLogits, options);
  for (const Candidate& candidate : wanted) {
    const double expected = candidate.probability * kDraws;
    chi_square += (counts[candidate.token] - expected) * (counts[candidate.token] - expected) / expected;
  }
  EXPECT_EQ(counts.size(), wanted.size());
  EXPECT_LT(chi_square, 16.27);  // one in a thousand of three degrees of freedom; the seed is fixed
}

TEST(Sampler, SameSeedSameTokens) {
  const auto draw = [](std::uint64_t seed) {
    Sampler sampler({.greedy = false}, seed);
    std::vector<std::int64_t> tokens;
    for (int i = 0; i < 64; ++i) tokens.push_back(sampler.next(kLogits));
    return tokens;
  };
  EXPECT_EQ(draw(1), draw(1));
  EXPECT_NE(draw(1), draw(2));
}

TEST(Sampler, GreedyTakesTheFirstOfTheLargest) {
  Sampler sampler({}, 0);
  EXPECT_EQ(sampler.next(kLogits), 1);
  EXPECT_EQ(sampler.next(std::vector<float>{0.0f, 2.0f, 2.0f}), 1);
}

TEST(Sampler, RefusesLogitsThatAreNoNumbers) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  for (const bool greedy : {true, false}) {
    Sampler sampler({.greedy = greedy}, 0);
    for (const std::vector<float>& bad : {std::vector<float>{nan, 1.0f}, {1.0f, nan}, {inf, 1.0f}, {-inf, -inf}, {}})
      EXPECT_TRUE(test::says(test::error_of([&] { sampler.next(bad); }), "no number"));
  }
}

TEST(Sampler, RefusesOptionsThatCannotBe) {
  const auto refusal = [](const SamplingOptions& options) { return test::error_of([&] { Sampler(options, 0); }); };
  EXPECT_TRUE(test::says(refusal({.greedy = false, .temperature = 0.0}), "temperature 0"));
  EXPECT_TRUE(test::says(refusal({.greedy = false, .top_k = -1}), "top_k -1"));
  EXPECT_TRUE(test::says(refusal({.greedy = false, .top_p = 0.0}), "top_p 0"));
  EXPECT_TRUE(test::says(refusal({.greedy = false, .top_p = 1.5}), "top_p 1.5"));
  EXPECT_EQ(refusal({.greedy = true, .temperature = 0.0}), "");
}

}  // namespace
}  // namespace bezel::generate
