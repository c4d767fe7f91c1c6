#include "bezel/report/html_clips.h"

#include <algorithm>
#include <set>

#include "bezel/report/html_text.h"

namespace bezel::report {
namespace {

constexpr int kCell = 22, kGap = 2, kLabelWidth = 26;
constexpr std::size_t kMostListed = 8;
constexpr const char* kBoundText[] = {"input below its bound", "input above its bound", "output below its bound",
                                      "output above its bound"};

std::string layer_text(std::int64_t layer) { return layer < 0 ? "–" : std::to_string(layer); }

std::string place_text(const ClipRow& row) {
  return row.tower + (row.layer < 0 ? " " : " layer " + std::to_string(row.layer) + " ") + row.projection;
}

// One tower at one time: rows are layers, columns projections, each cell four squares.
class HeatMap {
 public:
  HeatMap(const ClipTable& table, const std::string& tower) {
    std::set<std::int64_t> layers;
    for (const ClipRow& row : table.rows) {
      if (row.tower != tower) continue;
      rows_.push_back(&row);
      layers.insert(row.layer);
      if (std::ranges::find(columns_, row.projection) == columns_.end()) columns_.push_back(row.projection);
    }
    layers_.assign(layers.begin(), layers.end());
    std::size_t longest = 0;
    for (const std::string& column : columns_) longest = std::max(longest, label_of(column).size());
    head_height_ = 16 + static_cast<int>(7 * longest);
  }

  std::string svg() const {
    const int width = kLabelWidth + static_cast<int>(columns_.size()) * (kCell + kGap);
    const int height = head_height_ + static_cast<int>(layers_.size()) * (kCell + kGap);
    std::string out = "<svg class=\"heat\" width=\"" + std::to_string(width) + "\" height=\"" + std::to_string(height) +
                      "\" role=\"img\" aria-label=\"share of values clamped\">";
    for (std::size_t i = 0; i < columns_.size(); ++i) out += column_label(i);
    for (std::size_t i = 0; i < layers_.size(); ++i)
      out += "<text class=\"layer\" x=\"" + std::to_string(kLabelWidth - 8) + "\" y=\"" +
             std::to_string(top(i) + kCell / 2) + "\">" + layer_text(layers_[i]) + "</text>";
    for (const ClipRow* row : rows_) out += cell(*row);
    return out + "</svg>";
  }

 private:
  int top(std::size_t i) const { return head_height_ + static_cast<int>(i) * (kCell + kGap); }
  // The last part of a name where that says enough.
  std::string label_of(const std::string& column) const {
    const std::string last = column.substr(column.rfind('.') + 1);
    const auto same = [&](const std::string& other) { return other.substr(other.rfind('.') + 1) == last; };
    return std::ranges::count_if(columns_, same) == 1 ? last : column;
  }
  static int left(std::size_t i) { return kLabelWidth + static_cast<int>(i) * (kCell + kGap); }

  std::string column_label(std::size_t i) const {
    const std::string at = std::to_string(left(i) + kCell / 2) + " " + std::to_string(head_height_ - 8);
    return "<text class=\"column\" transform=\"translate(" + at + ") rotate(-90)\">" + escaped(label_of(columns_[i])) +
           "</text>";
  }

  std::string cell(const ClipRow& row) const {
    const auto layer = static_cast<std::size_t>(std::ranges::find(layers_, row.layer) - layers_.begin());
    const auto column = static_cast<std::size_t>(std::ranges::find(columns_, row.projection) - columns_.begin());
    std::string title = place_text(row);
    std::string out = "<g>";
    for (std::size_t bound = 0; bound < 4; ++bound) {
      // Inputs on the left, outputs on the right; what is above its bound on top.
      const int x = left(column) + (bound < 2 ? 0 : kCell / 2), y = top(layer) + (bound % 2 == 1 ? 0 : kCell / 2);
      out += "<rect class=\"h" + std::to_string(heat_level(row.shares[bound])) + "\" x=\"" + std::to_string(x) +
             "\" y=\"" + std::to_string(y) + "\" width=\"11\" height=\"11\"/>";
      title += std::string("\n") + kBoundText[bound] + ": " + percent_text(row.shares[bound]);
    }
    return out + "<title>" + escaped(title) + "</title></g>";
  }

  std::vector<const ClipRow*> rows_;
  std::vector<std::int64_t> layers_;
  std::vector<std::string> columns_;
  int head_height_ = 0;
};

std::string time_text(const std::vector<ClipTable>& tables, std::size_t i) {
  if (tables.size() == 1) return "step " + count_text(tables[i].step);
  return std::string(i == 0 ? "at the start" : "at the end") + ", step " + count_text(tables[i].step);
}

// The bounds that clamp most at the last time, with all times side by side.
std::string worst_table(const std::vector<ClipTable>& tables) {
  struct Entry {
    const ClipRow* row;
    std::size_t bound;
  };
  std::vector<Entry> entries;
  for (const ClipRow& row : tables.back().rows)
    for (std::size_t bound = 0; bound < 4; ++bound)
      if (row.shares[bound] > 0) entries.push_back({&row, bound});
  std::ranges::stable_sort(
      entries, [](const Entry& a, const Entry& b) { return a.row->shares[a.bound] > b.row->shares[b.bound]; });
  if (entries.empty()) return "<p>No value lies outside a bound.</p>";
  entries.resize(std::min(entries.size(), kMostListed));
  std::string out =
      "<div class=\"scroll\"><table class=\"figures\"><caption>Clamped most</caption><tr><th>layer</th>"
      "<th>bound</th>";
  for (std::size_t i = 0; i < tables.size(); ++i) out += "<th class=\"n\">step " + count_text(tables[i].step) + "</th>";
  out += "</tr>";
  for (const Entry& entry : entries) {
    out += "<tr><td>" + escaped(place_text(*entry.row)) + "</td><td>" + kBoundNames[entry.bound] + "</td>";
    for (const ClipTable& table : tables) {
      const auto same = std::ranges::find_if(
          table.rows, [&](const ClipRow& row) { return place_text(row) == place_text(*entry.row); });
      out += "<td class=\"n\">" + (same == table.rows.end() ? "–" : percent_text(same->shares[entry.bound])) + "</td>";
    }
    out += "</tr>";
  }
  return out + "</table></div>";
}

std::string legend() {
  constexpr const char* kText[] = {"none", "< 0.01 %", "< 0.1 %", "< 1 %", "< 10 %", "< 50 %", "≥ 50 %"};
  std::string out = "<ul class=\"scale\">";
  for (int level = 0; level < 7; ++level)
    out += "<li><i class=\"h" + std::to_string(level) + "\"></i>" + escaped(kText[level]) + "</li>";
  return out + "</ul>";
}

constexpr const char* kKey =
    "<svg class=\"key\" width=\"250\" height=\"46\" aria-hidden=\"true\"><rect class=\"h1\" x=\"112\" y=\"8\" "
    "width=\"14\" "
    "height=\"14\"/><rect class=\"h2\" x=\"126\" y=\"8\" width=\"14\" height=\"14\"/><rect class=\"h2\" x=\"112\" "
    "y=\"22\" "
    "width=\"14\" height=\"14\"/><rect class=\"h1\" x=\"126\" y=\"22\" width=\"14\" height=\"14\"/>"
    "<text class=\"left\" x=\"104\" y=\"15\">input above</text><text class=\"left\" x=\"104\" y=\"29\">input "
    "below</text>"
    "<text x=\"148\" y=\"15\">output above</text><text x=\"148\" y=\"29\">output below</text></svg>";

constexpr const char* kIntroduction =
    "<section id=\"clips\"><h2>Clip saturation</h2><p class=\"lead\">The share of each clipped layer's values that lie "
    "outside a bound, measured on a few samples. A clamped value passes no gradient: the stronger the color, the less "
    "a "
    "layer learns.</p>";

}  // namespace

int heat_level(double share) {
  if (!(share > 0)) return 0;
  const double steps[] = {1e-4, 1e-3, 1e-2, 1e-1, 0.5};
  return 1 + static_cast<int>(std::upper_bound(std::begin(steps), std::end(steps), share) - std::begin(steps));
}

std::string clips_html(const std::vector<ClipTable>& tables) {
  if (tables.empty() || tables.back().rows.empty()) return "";
  std::vector<std::string> towers;
  for (const ClipRow& row : tables.back().rows)
    if (std::ranges::find(towers, row.tower) == towers.end()) towers.push_back(row.tower);
  std::string out = kIntroduction + ("<div class=\"keys\">" + std::string(kKey)) + legend() + "</div>";
  out += "<div class=\"towers\">";
  for (const std::string& tower : towers) {
    out += "<div><h3>" + escaped(tower) + " tower</h3><div class=\"maps\">";
    for (std::size_t i = 0; i < tables.size(); ++i)
      out += "<figure><figcaption>" + time_text(tables, i) + "</figcaption><div class=\"scroll\">" +
             HeatMap(tables[i], tower).svg() + "</div></figure>";
    out += "</div></div>";
  }
  return out + "</div>" + worst_table(tables) + "</section>\n";
}

}  // namespace bezel::report
