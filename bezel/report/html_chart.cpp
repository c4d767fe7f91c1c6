#include "bezel/report/html_chart.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <map>

#include "bezel/io/json.h"
#include "bezel/report/html_text.h"

namespace bezel::report {
namespace {

constexpr double kWidth = 1000, kHeight = 300;  // of the SVG's own units, which are stretched
constexpr std::size_t kMaxPoints = 400;         // of a line; a chart is not wider than that in pixels that matter

struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();

  void add(double value) {
    if (!std::isfinite(value)) return;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  bool is_empty() const { return low > high; }
  double part(double value) const { return high > low ? (value - low) / (high - low) : 0.5; }
};

// The least and the greatest point of each stretch, so that peaks are kept; gaps are not.
std::vector<Point> thinned(std::vector<Point> points) {
  if (points.size() <= kMaxPoints) return points;
  std::erase_if(points, [](const Point& point) { return !std::isfinite(point.y); });
  std::vector<Point> out;
  const std::size_t stretches = kMaxPoints / 2;
  for (std::size_t i = 0; i < stretches; ++i) {
    const auto begin = points.begin() + static_cast<std::ptrdiff_t>(i * points.size() / stretches);
    const auto end = points.begin() + static_cast<std::ptrdiff_t>((i + 1) * points.size() / stretches);
    const auto below = [](const Point& a, const Point& b) { return a.y < b.y; };
    auto [least, most] = std::minmax_element(begin, end, below);
    if (most < least) std::swap(least, most);
    out.push_back(*least);
    if (most != least) out.push_back(*most);
  }
  return out;
}

std::string coordinate(double value) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.1f", value);
  return buffer;
}

class Plot {
 public:
  /// `ticks` of the y axis are inside `y`.
  Plot(const Chart& chart, Range x, Range y, std::vector<double> ticks)
      : chart_(chart), x_(x), y_(y), ticks_(std::move(ticks)) {}

  std::string svg() const {
    std::string out = "<svg viewBox=\"0 0 1000 300\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"" +
                      escaped(chart_.title) + " by step\">";
    for (const double tick : ticks_) {
      const std::string y = coordinate(kHeight * (1 - y_.part(tick)));
      out += "<path class=\"grid\" d=\"M0 " + y + "H1000\"/>";
    }
    for (const Line& line : chart_.lines) out += path(line);
    return out + "</svg>";
  }

  std::string y_labels() const {
    std::string out;
    for (const double tick : ticks_)
      out += "<span style=\"bottom:" + coordinate(100 * y_.part(tick)) + "%\">" + tick_text(tick) + "</span>";
    return out;
  }

  std::string x_labels() const {
    std::string out;
    for (const double tick : nice_ticks(x_.low, x_.high, 5)) {
      const double part = 100 * x_.part(tick);
      if (part < -0.01 || part > 100.01 || tick != std::round(tick)) continue;
      const char* edge = part > 94 ? " class=\"last\"" : part < 4 ? " class=\"first\"" : "";
      out += std::string("<span") + edge + " style=\"left:" + coordinate(part) + "%\">" +
             count_text(static_cast<std::int64_t>(tick)) + "</span>";
    }
    return out;
  }

 private:
  // With as many decimals as the distance of two ticks has.
  std::string tick_text(double tick) const {
    const double size = std::max(std::abs(y_.low), std::abs(y_.high));
    if (size < 1e-2 || size >= 1e6) return number_text(tick, 3);
    const double step = ticks_.size() > 1 ? ticks_[1] - ticks_[0] : 1.0;
    int decimals = 0;
    for (double scaled = step; decimals < 5 && std::abs(scaled - std::round(scaled)) > 1e-6; scaled *= 10) ++decimals;
    if (decimals == 0) return count_text(std::llround(tick));
    char buffer[48];
    std::snprintf(buffer, sizeof buffer, "%.*f", decimals, tick);
    return buffer;
  }

  std::string path(const Line& line) const {
    std::string d, dots;
    bool draws = false;
    for (const Point& point : thinned(line.points)) {
      if (!std::isfinite(point.y)) {
        draws = false;
        continue;
      }
      const std::string at = coordinate(kWidth * x_.part(point.x)) + " " + coordinate(kHeight * (1 - y_.part(point.y)));
      d += (draws ? "L" : "M") + at;
      draws = true;
      dots += "M" + at + "h0";
    }
    std::string out = "<path class=\"line " + line.style + "\" d=\"" + d + "\"/>";
    if (line.dots || line.points.size() == 1) out += "<path class=\"dots " + line.style + "\" d=\"" + dots + "\"/>";
    return out;
  }

  const Chart& chart_;
  Range x_, y_;
  std::vector<double> ticks_;
};

// What the pointer reads: [step, value of each line …], as a JSON attribute.
std::string readings(const Chart& chart) {
  std::map<double, std::vector<double>> rows;
  for (std::size_t i = 0; i < chart.lines.size(); ++i)
    for (const Point& point : thinned(chart.lines[i].points)) {
      auto& row = rows[point.x];
      row.resize(chart.lines.size(), std::numeric_limits<double>::quiet_NaN());
      row[i] = point.y;
    }
  io::Json out = io::Json::array();
  for (const auto& [x, values] : rows) {
    io::Json row = {x};
    for (const double value : values) row.push_back(std::isfinite(value) ? io::Json(number_text(value)) : nullptr);
    out.push_back(std::move(row));
  }
  return escaped(out.dump());
}

std::string legend(const Chart& chart) {
  std::string out = "<ul class=\"legend\">";
  // Empty for a single line, and there all the same: charts side by side begin at the same height.
  for (const Line& line : chart.lines)
    if (chart.lines.size() > 1) out += "<li class=\"" + line.style + "\">" + escaped(line.name) + "</li>";
  return out + "</ul>";
}

}  // namespace

std::vector<double> nice_ticks(double low, double high, int count) {
  if (!(high > low)) return {low};
  const double rough = (high - low) / count;
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (const double factor : {5.0, 2.5, 2.0, 1.0})
    if (factor * power >= rough * 0.999) step = factor * power;
  std::vector<double> ticks;
  const double first = std::floor(low / step + 1e-9), last = std::ceil(high / step - 1e-9);
  for (double i = first; i <= last + 0.5; ++i) ticks.push_back(i * step);
  return ticks;
}

std::vector<Point> smoothed(const std::vector<Point>& points, double span) {
  const double keep = 1.0 - 2.0 / (span + 1.0);
  std::vector<double> sums(points.size(), 0.0), weights(points.size(), 0.0);
  // Once from each end: a mean over the past alone would lag behind.
  const auto pass = [&](auto idx_of) {
    double sum = 0.0, weight = 0.0;
    for (std::size_t n = 0; n < points.size(); ++n) {
      const std::size_t i = idx_of(n);
      if (!std::isfinite(points[i].y)) continue;
      sum = keep * sum + (1 - keep) * points[i].y;
      weight = keep * weight + (1 - keep);
      sums[i] += sum;
      weights[i] += weight;
    }
  };
  pass([](std::size_t n) { return n; });
  pass([&](std::size_t n) { return points.size() - 1 - n; });
  std::vector<Point> out = points;
  for (std::size_t i = 0; i < out.size(); ++i)
    if (weights[i] > 0) out[i].y = sums[i] / weights[i];
  return out;
}

std::string chart_html(const Chart& chart) {
  Range x, y;
  for (const Line& line : chart.lines)
    for (const Point& point : line.points) {
      if (!std::isfinite(point.y)) continue;
      x.add(point.x);
      y.add(point.y);
    }
  if (y.is_empty()) return "";
  if (chart.from_zero) y.add(0);
  if (y.low == y.high) {
    y.add(y.low - 0.1 * std::max(std::abs(y.low), 1e-6));
    y.add(y.high + 0.1 * std::max(std::abs(y.high), 1e-6));
  }
  // Once: of the range that reaches to them, others might be nicer and outside it.
  std::vector<double> ticks = nice_ticks(y.low, y.high, 4);
  y.add(ticks.front());
  y.add(ticks.back());
  const Plot plot(chart, x, y, std::move(ticks));
  return "<figure class=\"chart\" id=\"chart-" + chart.id + "\"><figcaption><span class=\"name\">" +
         escaped(chart.title) + "</span><span class=\"unit\">" + escaped(chart.unit) +
         "</span><output></output></figcaption>" + legend(chart) + "<div class=\"frame\"><div class=\"y\">" +
         plot.y_labels() + "</div><div class=\"plot\" data-points=\"" + readings(chart) + "\">" + plot.svg() +
         "<i></i></div><div class=\"corner\">step</div><div class=\"x\">" + plot.x_labels() + "</div></div></figure>\n";
}

}  // namespace bezel::report
