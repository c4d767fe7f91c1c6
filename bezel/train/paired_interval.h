#pragma once

#include <optional>
#include <span>

namespace bezel::train {

/// Sums of one sample under two models, such as the loss over its label tokens, and how many tokens that were.
struct PairedSums {
  double first = 0.0;
  double second = 0.0;
  double weight = 0.0;  ///< above 0
};

struct Interval {
  double low = 0.0;
  double high = 0.0;
};

/// second - first of the weighted means sum / weight, over all samples.
double paired_difference(std::span<const PairedSums> samples);

/// Confidence interval of that difference. Samples are the unit: their tokens are not independent, and both models saw
/// the same ones. The variance is that of a ratio of sums, linearized: with d the difference, r = second - first - d ·
/// weight of each sample, it is n / (n - 1) · Σ r² / (Σ weight)²; times Student's t with n - 1 degrees of freedom.
/// Nothing for fewer than two samples.
std::optional<Interval> paired_interval(std::span<const PairedSums> samples, double confidence = 0.95);

/// The value that Student's t with `degrees` >= 1 of freedom exceeds with probability (1 - confidence) / 2.
double student_t(double confidence, long degrees);

}  // namespace bezel::train
