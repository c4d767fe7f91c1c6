#include "bezel/jinja/loop.h"

#include "bezel/error.h"
#include "bezel/jinja/compare.h"
#include "bezel/jinja/runtime.h"

namespace bezel::jinja {

std::optional<Value> LoopObject::pull() {
  if (ahead_.empty()) return next_();
  Value item = std::move(ahead_.front());
  ahead_.pop_front();
  return item;
}

const std::optional<Value>& LoopObject::peek() {
  if (!peeked_) after_ = pull();
  // An iterator that has ended is asked again, as jinja2 does; it stays at its end.
  peeked_ = after_.has_value();
  return after_;
}

std::optional<Value> LoopObject::advance() {
  std::optional<Value> item = peeked_ ? std::move(after_) : pull();
  peeked_ = false;
  if (!item) return std::nullopt;
  ++index0_;
  before_ = std::move(current_);
  current_ = item;
  return item;
}

std::int64_t LoopObject::length() {
  if (size_) return *size_;
  while (std::optional<Value> item = next_()) ahead_.push_back(std::move(*item));
  size_ = static_cast<std::int64_t>(ahead_.size()) + index0_ + 1 + (peeked_ ? 1 : 0);
  return *size_;
}

Value LoopObject::cycle(const Arguments& arguments) const {
  if (arguments.positional.empty()) throw Error("loop.cycle() needs a value");
  return arguments.positional[static_cast<std::size_t>(index0_) % arguments.positional.size()];
}

Value LoopObject::changed(const Arguments& arguments) {
  const Value value = Value::tuple(arguments.positional);
  const bool is_new = !last_changed_ || !equal(*last_changed_, value);
  if (is_new) last_changed_ = value;
  return Value::boolean(is_new);
}

std::optional<Value> LoopObject::attribute(const std::string& name) {
  if (name == "index0") return Value::integer(index0_);
  if (name == "index") return Value::integer(index0_ + 1);
  if (name == "first") return Value::boolean(index0_ == 0);
  if (name == "last") return Value::boolean(!peek());
  if (name == "length") return Value::integer(length());
  if (name == "revindex") return Value::integer(length() - index0_);
  if (name == "revindex0") return Value::integer(length() - index0_ - 1);
  if (name == "depth") return Value::integer(depth_ + 1);
  if (name == "depth0") return Value::integer(depth_);
  if (name == "previtem") return index0_ > 0 && before_ ? *before_ : Value::undefined("there is no previous item");
  if (name == "nextitem") return peek() ? *peek() : Value::undefined("there is no next item");
  if (name != "cycle" && name != "changed") return std::nullopt;
  // Weak: a loop may keep the method as its last changed value.
  return callable(name, [weak = weak_from_this(), name](Runtime&, Arguments arguments) {
    const auto loop = weak.lock();
    if (loop == nullptr) throw Error("loop.", name, "() is called after the loop");
    return name == "cycle" ? loop->cycle(arguments) : loop->changed(arguments);
  });
}

Value LoopObject::recurse(Arguments arguments) {
  if (!recurse_) throw Error("loop(...) needs the word 'recursive' in its for statement");
  return recurse_(std::move(arguments), depth_ + 1);
}

}  // namespace bezel::jinja
