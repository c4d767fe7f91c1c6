#pragma once

#include <string>
#include <vector>

#include "bezel/report/history.h"

namespace bezel::report {

/// Load of the experts: a heat map of layers and experts at each time of `tables`, and the layers that use their
/// experts least evenly as a table. "" without experts.
std::string experts_html(const std::vector<ExpertTable>& tables);

/// How strongly a share of the tokens is colored, 0 (none) to 6 (four times the even share of `num_experts` and more).
int load_level(double share, std::size_t num_experts);

/// How many experts with equal shares are spread as these are: e to the entropy.
double effective_experts(const std::vector<double>& shares);

}  // namespace bezel::report
