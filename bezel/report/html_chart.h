#pragma once

#include <string>
#include <vector>

namespace bezel::report {

struct Point {
  double x = 0.0;
  double y = 0.0;  ///< NaN: a gap
};

struct Line {
  std::string name;   ///< in the legend
  std::string style;  ///< its class in the style sheet: "main", "raw", "held"
  std::vector<Point> points;
  bool dots = false;  ///< mark the points
};

struct Chart {
  std::string id;  ///< the element is "chart-<id>"
  std::string title;
  std::string unit;
  std::vector<Line> lines;
  bool from_zero = false;  ///< the y axis begins at 0
};

/// A figure: caption, legend where there are several lines, axes with numbers, and the lines as SVG that stretches
/// while its text does not. "" when no line has a point.
std::string chart_html(const Chart& chart);

/// Means with weights that fall off to both sides, over about `span` points each way; gaps stay gaps.
std::vector<Point> smoothed(const std::vector<Point>& points, double span);

/// Round numbers (1, 2, 2.5 or 5 times a power of ten apart), about `count` of them, that cover [low, high].
std::vector<double> nice_ticks(double low, double high, int count);

}  // namespace bezel::report
