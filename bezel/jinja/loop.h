#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "bezel/jinja/value.h"

namespace bezel::jinja {

/// The variable `loop` of a for statement.
class LoopObject : public Object, public std::enable_shared_from_this<LoopObject> {
 public:
  using Next = std::function<std::optional<Value>()>;
  using Recurse = std::function<Value(Arguments, std::int64_t depth)>;

  /// `size` is the number of elements where the iterable knows it; `recurse` is empty unless the loop is recursive.
  LoopObject(Next next, std::optional<std::int64_t> size, Recurse recurse, std::int64_t depth)
      : next_(std::move(next)), size_(size), recurse_(std::move(recurse)), depth_(depth) {}

  /// Moves to the next element.
  std::optional<Value> advance();
  std::int64_t length();
  /// loop.name; nothing where there is no such attribute.
  std::optional<Value> attribute(const std::string& name);
  Value recurse(Arguments arguments);

 private:
  std::optional<Value> pull();
  const std::optional<Value>& peek();
  Value cycle(const Arguments& arguments) const;
  Value changed(const Arguments& arguments);

  Next next_;
  std::optional<std::int64_t> size_;
  Recurse recurse_;
  std::int64_t depth_;
  std::deque<Value> ahead_;  // elements that were taken from next_ before their turn
  bool peeked_ = false;
  std::optional<Value> after_;
  std::int64_t index0_ = -1;
  std::optional<Value> before_, current_, last_changed_;
};

}  // namespace bezel::jinja
