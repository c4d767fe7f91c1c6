#include "bezel/train/log_history.h"

#include <gtest/gtest.h>

#include "tests/support/temp_folder.h"

namespace bezel::train {
namespace {

TEST(LogHistory, IsTheArrayOfItsRows) {
  LogHistory history;
  EXPECT_EQ(io::parse_json(history.text(), "history"), io::Json::array());
  const io::Json rows = {
      {{"step", 1}, {"loss", 0.1 + 0.2}}, {{"step", 1}, {"eval_loss", 2.5}}, {{"step", 2}, {"loss", nullptr}}};
  for (const io::Json& row : rows) history.add(row);
  EXPECT_EQ(io::parse_json(history.text(), "history"), rows);
  EXPECT_EQ(history.last_eval_loss(), 2.5);

  LogHistory again;
  again.add({{"eval_loss", 9}});
  again.restore(io::JsonView(rows, "state"));
  EXPECT_EQ(again.text(), history.text());
  EXPECT_EQ(again.last_eval_loss(), 2.5);
}

TEST(LogHistory, RefusesWhatIsNoListOfRows) {
  LogHistory history;
  for (const io::Json& bad : {io::Json(3), io::Json::array({1})})
    EXPECT_NE(test::error_of([&] { history.restore(io::JsonView(bad, "state")); }), "") << bad;
}

}  // namespace
}  // namespace bezel::train
