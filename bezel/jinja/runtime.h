#pragma once

#include <cstddef>
#include <ctime>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "bezel/jinja/value.h"

namespace bezel::jinja {

/// Bounds on what rendering a template may take.
struct Limits {
  std::size_t max_steps = 20'000'000;      ///< nodes evaluated, elements visited and 16 bytes of text written, each
  std::size_t max_text_bytes = 64u << 20;  ///< of one string
  int max_depth = 1000;                    ///< nested calls, loops and expressions
};

/// What evaluating expressions shares: bounds, the message that text is written for, and the clock.
class Runtime {
 public:
  Runtime(const Limits& limits, std::function<std::tm()> now) : limits_(limits), now_(std::move(now)) {}
  Runtime(const Runtime&) = delete;
  ~Runtime();

  /// Counts `steps`; throws Error when there are more than the limits allow.
  void spend(std::size_t steps);
  /// Throws Error when a text of so many bytes is too large.
  void check_text(std::size_t bytes) const;
  /// Checks a text and counts its making.
  void spend_text(std::size_t bytes);
  /// `count` texts of `bytes_each`, checked before they are made.
  void spend_repeated(std::size_t count, std::size_t bytes_each);

  /// A string that the template writes, for the current message.
  Value literal(std::string_view text) { return string({text, owner}); }
  Value string(TracedText text, bool markup = false);
  TracedText text_of(const Value& value);

  /// Counts a nested call for as long as it lives.
  class Nesting {
   public:
    explicit Nesting(Runtime& runtime);
    ~Nesting() { --runtime_.depth_; }
    Nesting(const Nesting&) = delete;

   private:
    Runtime& runtime_;
  };

  /// Calls `cleanup` at the end; it frees cycles of shared objects.
  void at_end(std::function<void()> cleanup) { cleanups_.push_back(std::move(cleanup)); }
  std::tm now() const { return now_(); }

  Origin owner;  ///< of text that the template writes

 private:
  Limits limits_;
  std::function<std::tm()> now_;
  std::size_t steps_ = 0;
  int depth_ = 0;
  std::vector<std::function<void()>> cleanups_;
};

/// iter(value): calls of what is returned give the elements. Throws Error when the value is not iterable.
std::function<std::optional<Value>()> iterate(Runtime& runtime, const Value& value);
bool is_iterable(const Value& value);
/// list(value), each element counted.
std::vector<Value> list_of(Runtime& runtime, const Value& value);
/// len(value); throws Error when it has no length.
std::size_t length_of(const Value& value);

/// A lazy iterator as Python's generators are.
Value generator(std::function<std::optional<Value>()> next, int depth);

/// value.name and value[key] as jinja2's sandbox evaluates them: what is missing is undefined.
Value get_attribute(Runtime& runtime, const Value& value, const std::string& name);
Value get_item(Runtime& runtime, const Value& value, const Value& key);
/// value[begin:end:step]; each bound is an integer or None.
Value get_slice(Runtime& runtime, const Value& value, const Value& begin, const Value& end, const Value& step);

/// callee(arguments).
Value call(Runtime& runtime, const Value& callee, Arguments arguments);
Value callable(std::string name, std::function<Value(Runtime&, Arguments)> function);

/// value | name(arguments), and whether `value is name(arguments)`.
Value apply_filter(Runtime& runtime, const std::string& name, const Value& value, Arguments arguments);
bool apply_test(Runtime& runtime, const std::string& name, const Value& value, Arguments arguments);
bool has_filter(const std::string& name);
bool has_test(const std::string& name);

}  // namespace bezel::jinja
