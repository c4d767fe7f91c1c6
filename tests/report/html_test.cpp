#include "bezel/report/html.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "bezel/report/html_chart.h"
#include "bezel/report/html_clips.h"
#include "bezel/report/html_experts.h"
#include "bezel/report/html_text.h"

namespace bezel::report {
namespace {

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::size_t count_of(const std::string& text, const std::string& part) {
  std::size_t count = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

TEST(HtmlText, NumbersAsPeopleReadThem) {
  EXPECT_EQ(number_text(0), "0");
  EXPECT_EQ(number_text(0.12345), "0.1235");
  EXPECT_EQ(number_text(2.5), "2.5");
  EXPECT_EQ(number_text(0.00125), "0.00125");
  EXPECT_EQ(number_text(2e-4), "2e-4");
  EXPECT_EQ(number_text(2.54e-4), "2.54e-4");
  EXPECT_EQ(number_text(-12345.6), "-12,346");
  EXPECT_EQ(number_text(std::nan("")), "–");
  EXPECT_EQ(count_text(1234567), "1,234,567");
  EXPECT_EQ(percent_text(0), "0 %");
  EXPECT_EQ(percent_text(1e-6), "< 0.001 %");
  EXPECT_EQ(percent_text(0.00012), "0.012 %");
  EXPECT_EQ(percent_text(0.0123), "1.23 %");
  EXPECT_EQ(percent_text(0.5), "50 %");
  EXPECT_EQ(duration_text(3.21), "3.2 s");
  EXPECT_EQ(duration_text(252), "4 min 12 s");
  EXPECT_EQ(duration_text(3600 * 5 + 180), "5 h 03 min");
  EXPECT_EQ(memory_text(3.5 * (1 << 30)), "3.50 GiB");
}

TEST(HtmlText, NothingEscapesFromText) {
  EXPECT_EQ(escaped("<b a=\"1\" c='2'>&"), "&lt;b a=&quot;1&quot; c=&#39;2&#39;&gt;&amp;");
  EXPECT_EQ(escaped("caf\xC3\xA9 \xFF\x01"), "café \xEF\xBF\xBD");
}

TEST(NiceTicks, AreRoundAndCoverTheRange) {
  EXPECT_EQ(nice_ticks(0, 4, 4), (std::vector<double>{0, 1, 2, 3, 4}));
  EXPECT_EQ(nice_ticks(0.3, 2.2, 4), (std::vector<double>{0, 0.5, 1, 1.5, 2, 2.5}));
  for (const double scale : {1e-7, 1.0, 3.3e6})
    for (const double low : {-2.0, 0.0, 0.71}) {
      const auto ticks = nice_ticks(low * scale, (low + 1.37) * scale, 4);
      EXPECT_LE(ticks.front(), low * scale + 1e-9 * scale);
      EXPECT_GE(ticks.back(), (low + 1.37) * scale - 1e-9 * scale);
      EXPECT_GE(ticks.size(), 3u);
      EXPECT_LE(ticks.size(), 8u);
    }
  EXPECT_EQ(nice_ticks(2, 2, 4).size(), 1u);
}

TEST(Smoothed, KeepsAConstantAndGapsAndCutsNoise) {
  std::vector<Point> points;
  for (int i = 0; i < 50; ++i) points.push_back({static_cast<double>(i), 3.0});
  points[20].y = std::nan("");
  for (const Point& point : smoothed(points, 8)) {
    if (point.x == 20) continue;
    EXPECT_NEAR(point.y, 3.0, 1e-12);
  }
  EXPECT_TRUE(std::isnan(smoothed(points, 8)[20].y));
  for (Point& point : points) point.y = static_cast<int>(point.x) % 2;
  for (const Point& point : smoothed(points, 8)) EXPECT_NEAR(point.y, 0.5, 0.2);
}

TEST(ChartHtml, OnePathALineAndNoneWithoutPoints) {
  EXPECT_EQ(chart_html({"a", "A", "", {{"", "main", {}, false}}, false}), "");
  const std::string chart =
      chart_html({"a",
                  "A <x>",
                  "nats",
                  {{"one", "raw", {{1, 1}, {2, std::nan("")}, {3, 2}}, false}, {"two", "held", {{2, 5}}, true}},
                  false});
  EXPECT_EQ(count_of(chart, "class=\"line "), 2u);
  EXPECT_EQ(count_of(chart, "class=\"dots "), 1u);
  EXPECT_EQ(count_of(chart, "<li "), 2u);
  EXPECT_TRUE(has(chart, "A &lt;x&gt;"));
  EXPECT_FALSE(has(chart, "nan"));
}

// The values of the labels beside the y axis, by their place in per cent of its height.
std::vector<std::pair<double, double>> y_labels(double low, double high) {
  const std::string chart = chart_html({"a", "A", "", {{"", "main", {{1, low}, {2, high}}, false}}, false});
  const std::string mark = "<span style=\"bottom:";
  std::vector<std::pair<double, double>> labels;
  for (auto at = chart.find(mark); at != std::string::npos; at = chart.find(mark, at + 1)) {
    const double place = std::stod(chart.substr(at + mark.size()));
    labels.emplace_back(place, std::stod(chart.substr(chart.find('>', at) + 1)));
  }
  return labels;
}

TEST(ChartHtml, LabelsStandBesideThePlotAndSayWhatLiesThere) {
  for (const auto& [low, high] :
       {std::pair{5.528, 7.472}, {0.3, 2.2}, {0.1, 0.9}, {1.0, 9.0}, {0.0, 84.0}, {12.1, 13.9}}) {
    const auto labels = y_labels(low, high);
    ASSERT_GE(labels.size(), 3u) << low;
    EXPECT_NEAR(labels.front().first, 0.0, 0.05) << low << " to " << high;
    EXPECT_NEAR(labels.back().first, 100.0, 0.05) << low << " to " << high;
    const double from = labels.front().second, range = labels.back().second - from;
    for (const auto& [place, value] : labels) EXPECT_NEAR((value - from) / range * 100, place, 0.06) << value;
  }
}

TEST(ChartHtml, ManyPointsAreThinnedAndPeaksKept) {
  Line line{"", "main", {}, false};
  for (int i = 0; i < 100000; ++i) line.points.push_back({static_cast<double>(i), 1.0});
  line.points[54321].y = 9;
  const std::string chart = chart_html({"a", "A", "", {line}, true});
  EXPECT_LT(chart.size(), 40000u);
  EXPECT_TRUE(has(chart, "[54321.0,&quot;9&quot;]"));
}

TEST(HeatLevel, GrowsWithTheShare) {
  EXPECT_EQ(heat_level(0), 0);
  EXPECT_EQ(heat_level(std::nan("")), 0);
  EXPECT_EQ(heat_level(1e-6), 1);
  EXPECT_EQ(heat_level(1e-4), 2);
  EXPECT_EQ(heat_level(0.05), 4);
  EXPECT_EQ(heat_level(0.5), 6);
  EXPECT_EQ(heat_level(1), 6);
}

ClipTable table(std::int64_t step) {
  return {step,
          {{"vision", 0, "self_attn.q_proj", {0, 0.25, 0, 0.5}},
           {"vision", 1, "mlp.up_proj", {0, 0, 0, 0}},
           {"audio", 0, "feed_forward1.ffw_layer_1", {0, 0, 0, 1e-5}}}};
}

TEST(ClipsHtml, AMapForEachTowerAndTime) {
  EXPECT_EQ(clips_html({}), "");
  EXPECT_EQ(clips_html({{0, {}}}), "");
  const std::string clips = clips_html({table(0), table(9)});
  EXPECT_EQ(count_of(clips, "<svg class=\"heat\""), 4u);
  EXPECT_EQ(count_of(clips, "<title>"), 6u);
  EXPECT_EQ(count_of(clips, "<rect class=\"h6\""), 2u);
  EXPECT_TRUE(has(clips, "vision layer 0 self_attn.q_proj\ninput below its bound: 0 %\ninput above its bound: 25 %"));
  // Of the twelve bounds three clamp anything, the strongest first.
  EXPECT_LT(clips.find("<td>output_max</td><td class=\"n\">50 %</td>"), clips.find("<td>input_max</td>"));
  EXPECT_EQ(count_of(clips, "<tr><td>"), 3u);
}

TEST(LoadLevel, IsBesideAnEvenShare) {
  EXPECT_EQ(load_level(0, 8), 0);
  EXPECT_EQ(load_level(0.01, 8), 1);
  EXPECT_EQ(load_level(0.125 / 4, 8), 2);
  EXPECT_EQ(load_level(0.12, 8), 3);
  EXPECT_EQ(load_level(0.125, 8), 4);
  EXPECT_EQ(load_level(0.5, 8), 6);
}

TEST(EffectiveExperts, AreAsManyAsHaveEqualShares) {
  EXPECT_NEAR(effective_experts({0.25, 0.25, 0.25, 0.25}), 4, 1e-9);
  EXPECT_NEAR(effective_experts({0.5, 0.5, 0, 0}), 2, 1e-9);
  EXPECT_NEAR(effective_experts({1, 0, 0, 0}), 1, 1e-9);
}

TEST(ExpertsHtml, AMapForEachTimeAndTheLeastEvenLayers) {
  EXPECT_EQ(experts_html({}), "");
  EXPECT_EQ(experts_html({{3, {}}}), "");
  const ExpertTable first{1, {{0, {0.25, 0.25, 0.25, 0.25}}, {1, {0.5, 0.5, 0, 0}}}};
  const ExpertTable last{9, {{0, {0.25, 0.25, 0.25, 0.25}}, {1, {1, 0, 0, 0}}}};
  const std::string page = experts_html({first, last});
  EXPECT_EQ(count_of(page, "<svg class=\"heat\""), 2u);
  EXPECT_EQ(count_of(page, "<title>"), 16u);
  EXPECT_TRUE(has(page, "<title>layer 1 expert 0: 50 %</title>"));
  EXPECT_TRUE(has(page, "at the start, up to step 1"));
  // The layer that one expert serves is the first row.
  EXPECT_LT(page.find("<tr><td>1</td><td class=\"n\">2 of 4</td>"),
            page.find("<tr><td>0</td><td class=\"n\">4 of 4</td>"));
  EXPECT_TRUE(has(page, "<td class=\"n\">1 of 4</td><td class=\"n\">3</td><td class=\"n\">0: 100 %</td>"));
}

TEST(RenderHtml, AFreshRunHasNoChartsAndReloads) {
  RunHistory history;
  history.model = "<model>";
  const std::string page = render_html(history);
  EXPECT_TRUE(has(page, "&lt;model&gt;"));
  EXPECT_FALSE(has(page, "<model>"));
  EXPECT_TRUE(has(page, "http-equiv=\"refresh\""));
  EXPECT_FALSE(has(page, "<figure"));
  for (const char* section : {"id=\"clips\"", "id=\"predictions\""}) EXPECT_FALSE(has(page, section));
}

TEST(RenderHtml, AnswersThatAreNotThereYetSaySo) {
  RunHistory history;
  history.predictions = {{"t:1", "Hi", "b", "a", ""}};
  EXPECT_TRUE(has(render_html(history), "<h4>after</h4><p class=\"none\">not yet</p>"));
  history.state = RunState::kDone;
  EXPECT_TRUE(has(render_html(history), "<h4>after</h4><p class=\"none\">nothing</p>"));
}

TEST(AskedText, IsTheLastUserTurnWithWordsForMedia) {
  EXPECT_EQ(asked_text("<bos><|turn>user\na<turn|>\n<|turn>model\nb<turn|>\n<|turn>user\n<|image|>c\n<|audio|>d<turn|>"
                       "\n<|turn>model\n"),
            "[image] c\n[audio clip] d");
  EXPECT_EQ(asked_text("<bos>plain <|image|>"), "plain [image] ");
}

TEST(RenderHtml, AFinishedRunShowsWhatItKnows) {
  RunHistory history;
  history.state = RunState::kDone;
  for (std::int64_t step = 1; step <= 40; ++step) history.steps.push_back({step, 0.1, 2.0, 1e-4, 1, 100, 1e9});
  history.evals = {{20, 1.5}, {40, 1.75}};
  history.total_steps = 40;
  history.clips = {table(0)};
  history.predictions = {{"t:1", "<bos><|turn>user\nHi<turn|>\n<|turn>model\n", "b", "<a>", "b"}};
  const std::string page = render_html(history);
  EXPECT_FALSE(has(page, "http-equiv=\"refresh\""));
  for (const char* id : {"loss", "rate", "norm", "speed", "memory"})
    EXPECT_TRUE(has(page, std::string("id=\"chart-") + id + "\"")) << id;
  EXPECT_TRUE(has(page, "best 1.5 at step 20"));
  EXPECT_TRUE(has(page, "<dt>asked</dt><dd>Hi</dd>"));
  EXPECT_TRUE(has(page, "<div><h4>before training</h4><p>&lt;a&gt;</p>"));
  EXPECT_TRUE(has(page, "<div class=\"right\"><h4>after (as wanted)</h4><p>b</p>"));
  EXPECT_FALSE(has(page, "src="));
  EXPECT_FALSE(has(page, "http://"));
  EXPECT_FALSE(has(page, "https://"));
}

}  // namespace
}  // namespace bezel::report
