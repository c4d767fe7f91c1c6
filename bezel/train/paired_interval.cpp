#include "bezel/train/paired_interval.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace bezel::train {
namespace {

// P(|T| < t) as a finite sum over the angle atan(t / sqrt(degrees)): Abramowitz & Stegun, 26.7.3 and 26.7.4.
double two_sided_probability(double t, long degrees) {
  const double angle = std::atan(t / std::sqrt(static_cast<double>(degrees)));
  const double cosine = std::cos(angle), square = cosine * cosine;
  const bool odd = degrees % 2 != 0;
  double term = odd ? cosine : 1.0, sum = 0.0;
  for (long i = odd ? 3 : 2; i <= degrees; i += 2) {
    sum += term;
    term *= square * static_cast<double>(i - 1) / static_cast<double>(i);
  }
  if (odd) return 2 / std::numbers::pi * (angle + std::sin(angle) * sum);
  return std::sin(angle) * sum;
}

}  // namespace

double student_t(double confidence, long degrees) {
  // Beyond this t and the normal distribution differ by less than 1e-5, and the sum would be long.
  const long n = std::min(degrees, 200'000L);
  double low = 0.0, high = 1.0;
  while (two_sided_probability(high, n) < confidence) high *= 2;
  for (int i = 0; i < 60; ++i) {
    const double middle = (low + high) / 2;
    (two_sided_probability(middle, n) < confidence ? low : high) = middle;
  }
  return high;
}

double paired_difference(std::span<const PairedSums> samples) {
  double difference = 0.0, weight = 0.0;
  for (const PairedSums& sample : samples) {
    difference += sample.second - sample.first;
    weight += sample.weight;
  }
  return weight > 0 ? difference / weight : 0.0;
}

std::optional<Interval> paired_interval(std::span<const PairedSums> samples, double confidence) {
  if (samples.size() < 2) return std::nullopt;
  const double difference = paired_difference(samples);
  double squares = 0.0, weight = 0.0;
  for (const PairedSums& sample : samples) {
    const double rest = sample.second - sample.first - difference * sample.weight;
    squares += rest * rest;
    weight += sample.weight;
  }
  const auto n = static_cast<double>(samples.size());
  const double error = std::sqrt(n / (n - 1) * squares) / weight;
  const double half = student_t(confidence, static_cast<long>(samples.size()) - 1) * error;
  return Interval{difference - half, difference + half};
}

}  // namespace bezel::train
