#include "bezel/jinja/evaluator.h"

#include <algorithm>

#include "bezel/error.h"
#include "bezel/jinja/compare.h"
#include "bezel/jinja/loop.h"

namespace bezel::jinja {

using StatementForm = Statement::Form;

const Value* Scope::find(std::string_view name) const {
  for (const Scope* scope = this; scope != nullptr; scope = scope->parent.get())
    for (const auto& [known, value] : scope->variables)
      if (known == name) return &value;
  return nullptr;
}

void Scope::set(std::string_view name, Value value) {
  for (auto& [known, held] : variables) {
    if (known != name) continue;
    held = std::move(value);
    return;
  }
  variables.emplace_back(name, std::move(value));
}

/// A scope, and where asked for a text that is written to, for as long as it lives.
class Evaluator::Frame {
 public:
  Frame(Evaluator& evaluator, std::shared_ptr<Scope> outer, TracedText* out = nullptr)
      : evaluator_(evaluator),
        nesting_(evaluator.runtime_),
        scope_(std::move(evaluator.scope_)),
        out_(evaluator.out_),
        owner_(evaluator.runtime_.owner) {
    evaluator_.scope_ = std::make_shared<Scope>(std::move(outer));
    if (out != nullptr) evaluator_.out_ = out;
  }
  ~Frame() {
    evaluator_.scope_ = std::move(scope_);
    evaluator_.out_ = out_;
    evaluator_.runtime_.owner = owner_;
  }
  Frame(const Frame&) = delete;

 private:
  Evaluator& evaluator_;
  Runtime::Nesting nesting_;
  std::shared_ptr<Scope> scope_;
  TracedText* out_;
  Origin owner_;
};

TracedText Evaluator::render(const Body& body) {
  TracedText out;
  out_ = &out;
  run(body);
  return out;
}

void Evaluator::write(TracedText text) {
  // A call's name in front of its answer is part of the answer.
  if (runtime_.owner.response) text.mark_response();
  out_->append(text);
  runtime_.check_text(out_->size());
}

Evaluator::Flow Evaluator::run(const Body& body) {
  for (const auto& statement : body)
    if (const Flow flow = run_statement(*statement); flow != Flow::kNext) return flow;
  return Flow::kNext;
}

Evaluator::Flow Evaluator::run_statement(const Statement& statement) {
  runtime_.spend(1);
  line_ = statement.line;
  switch (statement.form) {
    case StatementForm::kData:
      runtime_.spend_text(statement.text.size());
      write({statement.text, runtime_.owner});
      return Flow::kNext;
    case StatementForm::kPrint:
      write(runtime_.text_of(evaluate(*statement.value)));
      return Flow::kNext;
    case StatementForm::kIf:
      return run_if(statement);
    case StatementForm::kFor:
      run_for(statement);
      return Flow::kNext;
    case StatementForm::kSet:
      run_set(statement);
      return Flow::kNext;
    case StatementForm::kMacro:
      scope_->set(statement.macro->name, macro(statement.macro));
      return Flow::kNext;
    case StatementForm::kCall:
      run_call(statement);
      return Flow::kNext;
    case StatementForm::kBreak:
      return Flow::kBreak;
    case StatementForm::kContinue:
      return Flow::kContinue;
    default:
      return run_captured(statement);
  }
}

Evaluator::Flow Evaluator::run_if(const Statement& statement) {
  const Runtime::Nesting nesting(runtime_);
  for (const auto& [test, body] : statement.branches)
    if (test == nullptr || truth(evaluate(*test))) return run(body);
  return Flow::kNext;
}

// Blocks whose text is written, changed or kept once it is whole.
Evaluator::Flow Evaluator::run_captured(const Statement& statement) {
  TracedText text;
  Flow flow = Flow::kNext;
  if (statement.form == StatementForm::kWith) {
    run_with(statement);
    return flow;
  }
  {
    const Frame frame(*this, scope_, &text);
    flow = run(statement.body);
  }
  // Leaving the loop drops the text.
  if (flow != Flow::kNext) return flow;
  if (statement.form == StatementForm::kGeneration) {
    text.mark_generation();
    write(std::move(text));
    return flow;
  }
  Value value = runtime_.string(std::move(text));
  if (statement.value != nullptr) value = evaluate_filter(*statement.value, &value);
  if (statement.form == StatementForm::kSetBlock) {
    assign(*statement.target, std::move(value));
  } else {
    write(runtime_.text_of(value));
  }
  return flow;
}

void Evaluator::run_with(const Statement& statement) {
  std::vector<Value> values;
  for (const auto& [target, value] : statement.assignments) values.push_back(evaluate(*value));
  const Frame frame(*this, scope_);
  for (std::size_t i = 0; i < values.size(); ++i) assign(*statement.assignments[i].first, std::move(values[i]));
  run(statement.body);
}

void Evaluator::run_set(const Statement& statement) {
  Value value = evaluate(*statement.value);
  line_ = statement.line;
  // A loop over indices picks its message here.
  const bool picks = loops_ > 0 && value.is(Kind::kDict) && value.origin().message >= 0;
  if (picks && runtime_.owner.message < 0)
    runtime_.owner = {.message = value.origin().message, .response = value.origin().response};
  assign(*statement.target, std::move(value));
}

void Evaluator::assign(const Expression& target, Value value) {
  runtime_.spend(1);
  if (target.form == Expression::Form::kName) return scope_->set(target.text, std::move(value));
  if (target.form == Expression::Form::kReference) return assign_attribute(target, std::move(value));
  const std::vector<Value> items = list_of(runtime_, value);
  if (items.size() != target.parts.size())
    throw Error("cannot assign ", items.size(), " values to ", target.parts.size(), " names");
  for (std::size_t i = 0; i < items.size(); ++i) assign(*target.parts[i], items[i]);
}

void Evaluator::assign_attribute(const Expression& target, Value value) {
  const std::string& name = target.parts[0]->text;
  const Value object = evaluate_name(*target.parts[0]);
  if (!object.is(Kind::kNamespace)) throw Error("'", name, "' is no namespace(), so its attributes cannot be set");
  if (target.text.starts_with("_")) throw Error("names that begin with '_' cannot be set in a namespace");
  object.as<NamespaceObject>().attributes.set(Value::string({target.text, {}}), std::move(value));
}

void Evaluator::run_for(const Statement& statement) {
  const Value iterable = evaluate(*statement.value);
  line_ = statement.line;
  ++loops_;
  if (statement.recursive) {
    Arguments arguments;
    arguments.positional.push_back(iterable);
    write(recurse(statement, std::move(arguments), 0).text());
  } else {
    loop(statement, iterable, 0);
  }
  --loops_;
}

Value Evaluator::recurse(const Statement& statement, Arguments arguments, std::int64_t depth) {
  if (arguments.positional.size() != 1 || !arguments.named.empty()) throw Error("loop(...) takes one value");
  TracedText text;
  {
    const Frame frame(*this, scope_, &text);
    loop(statement, arguments.positional[0], depth);
  }
  return runtime_.string(std::move(text));
}

std::function<std::optional<Value>()> Evaluator::filtered(const Statement& statement, const Value& iterable) {
  return [this, &statement, next = iterate(runtime_, iterable), scope = scope_]() -> std::optional<Value> {
    while (std::optional<Value> item = next()) {
      runtime_.spend(1);
      const Frame frame(*this, scope);
      assign(*statement.target, *item);
      if (truth(evaluate(*statement.test))) return item;
    }
    return std::nullopt;
  };
}

void Evaluator::loop(const Statement& statement, const Value& iterable, std::int64_t depth) {
  std::optional<std::int64_t> size;
  if (statement.test == nullptr && !iterable.is(Kind::kIterator) && is_iterable(iterable))
    size = static_cast<std::int64_t>(length_of(iterable));
  LoopObject::Recurse recursion;
  if (statement.recursive)
    recursion = [this, &statement, scope = scope_](Arguments arguments, std::int64_t inner) {
      const Frame frame(*this, scope);
      return recurse(statement, std::move(arguments), inner);
    };
  auto next = statement.test == nullptr ? iterate(runtime_, iterable) : filtered(statement, iterable);
  const auto object = std::make_shared<LoopObject>(std::move(next), size, std::move(recursion), depth);
  const Value loop_value = Value::of(Kind::kLoop, object);
  bool completed = false;
  while (const std::optional<Value> item = object->advance()) {
    const Flow flow = run_iteration(statement, *item, loop_value);
    if (flow == Flow::kBreak) break;
    // jinja2 counts an iteration once its end is reached, so `continue` in all of them runs `else`.
    completed = completed || flow == Flow::kNext;
  }
  if (completed || statement.else_body.empty()) return;
  const Frame frame(*this, scope_);
  run(statement.else_body);
}

Evaluator::Flow Evaluator::run_iteration(const Statement& statement, const Value& item, const Value& loop) {
  runtime_.spend(1);
  const Frame frame(*this, scope_);
  if (item.origin().message >= 0)
    runtime_.owner = {.message = item.origin().message, .response = item.origin().response};
  scope_->set("loop", loop);
  assign(*statement.target, item);
  return run(statement.body);
}

Value Evaluator::macro(std::shared_ptr<const MacroDefinition> definition) {
  // The scope holds the macro, and the macro its scope.
  runtime_.at_end([scope = scope_] { scope->variables.clear(); });
  const std::string name = definition->name;
  Value out = callable(name, [this, definition = std::move(definition), scope = scope_](Runtime&, Arguments arguments) {
    return call_macro(*definition, scope, std::move(arguments));
  });
  out.as<CallableObject>().is_macro = true;
  return out;
}

Value Evaluator::call_macro(const MacroDefinition& definition, const std::shared_ptr<Scope>& scope,
                            Arguments arguments) {
  TracedText text;
  {
    const Frame frame(*this, scope, &text);
    bind_parameters(definition, std::move(arguments));
    run(definition.body);
  }
  return runtime_.string(std::move(text));
}

void Evaluator::run_call(const Statement& statement) {
  const Value caller = macro(statement.macro);
  write(runtime_.text_of(evaluate_call(*statement.value, &caller)));
}

}  // namespace bezel::jinja
