#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bezel/jinja/ast.h"
#include "bezel/jinja/runtime.h"

namespace bezel::jinja {

/// Variables of a block; those of the blocks around it are seen, but not changed.
struct Scope {
  explicit Scope(std::shared_ptr<Scope> outer) : parent(std::move(outer)) {}

  const Value* find(std::string_view name) const;
  void set(std::string_view name, Value value);

  std::shared_ptr<Scope> parent;
  std::vector<std::pair<std::string, Value>> variables;
};

/// Runs the statements of a template.
class Evaluator {
 public:
  Evaluator(Runtime& runtime, std::shared_ptr<Scope> context) : runtime_(runtime), scope_(std::move(context)) {}

  /// The text that `body` writes. Throws Error without a place; see line().
  TracedText render(const Body& body);
  /// Line of the template that was evaluated last.
  int line() const { return line_; }

 private:
  enum class Flow { kNext, kBreak, kContinue };
  class Frame;

  Flow run(const Body& body);
  Flow run_statement(const Statement& statement);
  Flow run_if(const Statement& statement);
  void run_for(const Statement& statement);
  void run_set(const Statement& statement);
  void run_call(const Statement& statement);
  void run_with(const Statement& statement);
  Flow run_captured(const Statement& statement);
  void loop(const Statement& statement, const Value& iterable, std::int64_t depth);
  Flow run_iteration(const Statement& statement, const Value& item, const Value& loop);
  Value recurse(const Statement& statement, Arguments arguments, std::int64_t depth);
  std::function<std::optional<Value>()> filtered(const Statement& statement, const Value& iterable);
  void assign(const Expression& target, Value value);
  void assign_attribute(const Expression& target, Value value);
  Value macro(std::shared_ptr<const MacroDefinition> definition);
  Value call_macro(const MacroDefinition& definition, const std::shared_ptr<Scope>& scope, Arguments arguments);
  void bind_parameters(const MacroDefinition& definition, Arguments arguments);
  void bind_rest(const MacroDefinition& definition, Arguments arguments, std::size_t given);
  void write(TracedText text);

  Value evaluate(const Expression& expression);
  Value evaluate_name(const Expression& expression);
  Value evaluate_list(const Expression& expression);
  Value evaluate_dict(const Expression& expression);
  Value evaluate_item(const Expression& expression);
  Value evaluate_call(const Expression& expression, const Value* caller);
  /// `body` replaces a missing operand.
  Value evaluate_filter(const Expression& expression, const Value* body);
  Value evaluate_test(const Expression& expression);
  Value evaluate_logic(const Expression& expression);
  Value evaluate_compare(const Expression& expression);
  Value evaluate_concat(const Expression& expression);
  Value evaluate_conditional(const Expression& expression);
  Arguments arguments_of(const Expression& expression);

  Runtime& runtime_;
  std::shared_ptr<Scope> scope_;
  TracedText* out_ = nullptr;
  int line_ = 1;
  int loops_ = 0;
};

}  // namespace bezel::jinja
