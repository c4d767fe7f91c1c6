#include "bezel/report/html_experts.h"

#include <algorithm>
#include <cmath>

#include "bezel/report/html_text.h"

namespace bezel::report {
namespace {

constexpr int kExpertLabel = 26, kExpertHead = 20, kRowHeight = 14;
constexpr std::size_t kLeastEven = 8;

int cell_width(std::size_t num_experts) { return num_experts > 64 ? 5 : num_experts > 16 ? 10 : 20; }

std::size_t most_experts(const ExpertTable& table) {
  std::size_t most = 0;
  for (const ExpertRow& row : table.rows) most = std::max(most, row.shares.size());
  return most;
}

std::string rect(int level, int x, int y, int width) {
  return "<rect class=\"h" + std::to_string(level) + "\" x=\"" + std::to_string(x) + "\" y=\"" + std::to_string(y) +
         "\" width=\"" + std::to_string(width) + "\" height=\"" + std::to_string(kRowHeight - 2) + "\"/>";
}

// Rows are layers, columns experts.
std::string load_map(const ExpertTable& table) {
  const std::size_t num_experts = most_experts(table);
  const int width = cell_width(num_experts), gap = width > 5 ? 2 : 1;
  const int total = kExpertLabel + static_cast<int>(num_experts) * (width + gap);
  const int height = kExpertHead + static_cast<int>(table.rows.size()) * kRowHeight;
  std::string out = "<svg class=\"heat\" width=\"" + std::to_string(total) + "\" height=\"" + std::to_string(height) +
                    "\" role=\"img\" aria-label=\"share of tokens of each expert\">";
  out += "<text x=\"" + std::to_string(kExpertLabel) + "\" y=\"8\">expert 0 to " + std::to_string(num_experts - 1) +
         "</text>";
  int y = kExpertHead;
  for (const ExpertRow& row : table.rows) {
    out += "<text class=\"layer\" x=\"" + std::to_string(kExpertLabel - 8) + "\" y=\"" +
           std::to_string(y + kRowHeight / 2) + "\">" + std::to_string(row.layer) + "</text>";
    for (std::size_t expert = 0; expert < row.shares.size(); ++expert) {
      const int x = kExpertLabel + static_cast<int>(expert) * (width + gap);
      out += "<g>" + rect(load_level(row.shares[expert], row.shares.size()), x, y, width) + "<title>layer " +
             std::to_string(row.layer) + " expert " + std::to_string(expert) + ": " + percent_text(row.shares[expert]) +
             "</title></g>";
    }
    y += kRowHeight;
  }
  return out + "</svg>";
}

std::string caption(const std::vector<ExpertTable>& tables, std::size_t i) {
  const std::string step = "up to step " + count_text(tables[i].step);
  if (tables.size() == 1) return step;
  return (i == 0 ? "at the start, " : "at the end, ") + step;
}

std::string load_legend() {
  constexpr const char* kText[] = {"no token",  "below ¼ of an even share", "below ½", "below 1", "below 2", "below 4",
                                   "4 and more"};
  std::string out = "<ul class=\"scale\">";
  for (int level = 0; level < 7; ++level)
    out += "<li><i class=\"h" + std::to_string(level) + "\"></i>" + escaped(kText[level]) + "</li>";
  return out + "</ul>";
}

std::string cells(const ExpertRow& row) {
  const auto busiest = std::ranges::max_element(row.shares);
  return "<td class=\"n\">" + number_text(effective_experts(row.shares), 3) + " of " +
         std::to_string(row.shares.size()) + "</td><td class=\"n\">" +
         std::to_string(std::ranges::count(row.shares, 0.0)) + "</td><td class=\"n\">" +
         std::to_string(busiest - row.shares.begin()) + ": " + percent_text(*busiest) + "</td>";
}

// The layers that spread their tokens over the fewest experts at the last time, with all times side by side.
std::string least_even(const std::vector<ExpertTable>& tables) {
  std::vector<const ExpertRow*> rows;
  for (const ExpertRow& row : tables.back().rows) rows.push_back(&row);
  std::ranges::stable_sort(rows, {}, [](const ExpertRow* row) { return effective_experts(row->shares); });
  rows.resize(std::min(rows.size(), kLeastEven));
  std::string out =
      "<div class=\"scroll\"><table class=\"figures\"><caption>Spread least evenly</caption><tr><th>layer</th>";
  for (const ExpertTable& table : tables) {
    const std::string at = " <small>step " + count_text(table.step) + "</small></th>";
    out += "<th class=\"n\">spread like" + at + "<th class=\"n\">without a token" + at + "<th class=\"n\">busiest" + at;
  }
  out += "</tr>";
  for (const ExpertRow* row : rows) {
    out += "<tr><td>" + std::to_string(row->layer) + "</td>";
    for (const ExpertTable& table : tables) {
      const auto same = std::ranges::find(table.rows, row->layer, &ExpertRow::layer);
      out += same == table.rows.end() ? "<td></td><td></td><td></td>" : cells(*same);
    }
    out += "</tr>";
  }
  return out + "</table></div>";
}

constexpr const char* kExpertsIntroduction =
    "<section id=\"experts\"><h2>Load of the experts</h2><p class=\"lead\">The share of the tokens that each expert of "
    "each layer got. Where routing collapses, few cells of a row are strong and the others pale; a column that is pale "
    "everywhere means nothing, since experts of different layers have nothing to do with each other.</p>";

}  // namespace

int load_level(double share, std::size_t num_experts) {
  if (!(share > 0)) return 0;
  const double steps[] = {0.25, 0.5, 1, 2, 4};
  const double times_even = share * static_cast<double>(num_experts);
  return 1 + static_cast<int>(std::upper_bound(std::begin(steps), std::end(steps), times_even) - std::begin(steps));
}

double effective_experts(const std::vector<double>& shares) {
  double entropy = 0;
  for (const double share : shares)
    if (share > 0) entropy -= share * std::log(share);
  return std::exp(entropy);
}

std::string experts_html(const std::vector<ExpertTable>& tables) {
  if (tables.empty() || most_experts(tables.back()) == 0) return "";
  std::string out = kExpertsIntroduction + ("<div class=\"keys\">" + load_legend()) + "</div><div class=\"maps\">";
  for (std::size_t i = 0; i < tables.size(); ++i)
    if (most_experts(tables[i]) > 0)
      out += "<figure><figcaption>" + caption(tables, i) + "</figcaption><div class=\"scroll\">" + load_map(tables[i]) +
             "</div></figure>";
  return out + "</div>" + least_even(tables) + "</section>\n";
}

}  // namespace bezel::report
