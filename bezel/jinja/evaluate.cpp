// Expressions, and what a macro is called with.
#include <algorithm>

#include "bezel/error.h"
#include "bezel/jinja/arithmetic.h"
#include "bezel/jinja/compare.h"
#include "bezel/jinja/contains.h"
#include "bezel/jinja/evaluator.h"

namespace bezel::jinja {

using Form = Expression::Form;

Value Evaluator::evaluate(const Expression& expression) {
  const Runtime::Nesting nesting(runtime_);
  runtime_.spend(1);
  line_ = expression.line;
  switch (expression.form) {
    case Form::kConstant:
      return expression.constant;
    case Form::kText:
      return runtime_.literal(expression.text);
    case Form::kName:
      return evaluate_name(expression);
    case Form::kList:
    case Form::kTuple:
      return evaluate_list(expression);
    case Form::kDict:
      return evaluate_dict(expression);
    case Form::kAttribute:
      return get_attribute(runtime_, evaluate(*expression.parts[0]), expression.text);
    case Form::kItem:
      return evaluate_item(expression);
    case Form::kCall:
      return evaluate_call(expression, nullptr);
    case Form::kFilter:
      return evaluate_filter(expression, nullptr);
    case Form::kTest:
      return evaluate_test(expression);
    case Form::kCompare:
      return evaluate_compare(expression);
    case Form::kConcat:
      return evaluate_concat(expression);
    case Form::kConditional:
      return evaluate_conditional(expression);
    case Form::kBinary: {
      const Value left = evaluate(*expression.parts[0]);
      const Value right = evaluate(*expression.parts[1]);
      line_ = expression.line;
      return arithmetic(runtime_, expression.text, left, right);
    }
    default:
      return evaluate_logic(expression);
  }
}

Value Evaluator::evaluate_name(const Expression& expression) {
  const Value* found = scope_->find(expression.text);
  return found != nullptr ? *found : Value::undefined("'" + expression.text + "' is undefined");
}

Value Evaluator::evaluate_list(const Expression& expression) {
  std::vector<Value> items;
  for (const ExpressionPtr& part : expression.parts) items.push_back(evaluate(*part));
  return expression.form == Form::kList ? Value::list(std::move(items)) : Value::tuple(std::move(items));
}

Value Evaluator::evaluate_dict(const Expression& expression) {
  auto dict = std::make_shared<DictObject>();
  for (std::size_t i = 0; i < expression.parts.size(); i += 2) {
    Value key = evaluate(*expression.parts[i]);
    if (!is_hashable(key)) throw Error("a ", type_name(key), " is no key of a dict");
    dict->set(std::move(key), evaluate(*expression.parts[i + 1]));
  }
  return Value::of(Kind::kDict, std::move(dict));
}

Value Evaluator::evaluate_item(const Expression& expression) {
  const Value value = evaluate(*expression.parts[0]);
  const Expression& key = *expression.parts[1];
  line_ = expression.line;
  if (key.form != Form::kSlice) return get_item(runtime_, value, evaluate(key));
  const auto bound = [&](std::size_t i) { return key.parts[i] == nullptr ? Value::none() : evaluate(*key.parts[i]); };
  const Value begin = bound(0), end = bound(1), step = bound(2);
  return get_slice(runtime_, value, begin, end, step);
}

Arguments Evaluator::arguments_of(const Expression& expression) {
  Arguments out;
  for (std::size_t i = 1; i < expression.parts.size(); ++i) out.positional.push_back(evaluate(*expression.parts[i]));
  if (expression.spread != nullptr)
    for (Value& value : list_of(runtime_, evaluate(*expression.spread))) out.positional.push_back(std::move(value));
  for (const auto& [name, value] : expression.named) out.named.emplace_back(name, evaluate(*value));
  if (expression.spread_named == nullptr) return out;
  const Value named = evaluate(*expression.spread_named);
  if (!named.is(Kind::kDict)) throw Error("the value behind ** is a ", type_name(named), ", expected a dict");
  for (const auto& [key, value] : named.as<DictObject>().items()) {
    if (!key.is_string()) throw Error("a key behind ** is a ", type_name(key), ", expected a string");
    out.named.emplace_back(key.bytes(), value);
  }
  return out;
}

Value Evaluator::evaluate_call(const Expression& expression, const Value* caller) {
  const Value callee = evaluate(*expression.parts[0]);
  Arguments arguments = arguments_of(expression);
  if (caller != nullptr) arguments.named.emplace_back("caller", *caller);
  line_ = expression.line;
  return call(runtime_, callee, std::move(arguments));
}

Value Evaluator::evaluate_filter(const Expression& expression, const Value* body) {
  const Expression* operand = expression.parts[0].get();
  // The innermost filter of a block has no operand: it takes the block's text.
  const Value value = operand == nullptr                                  ? *body
                      : body != nullptr && operand->form == Form::kFilter ? evaluate_filter(*operand, body)
                                                                          : evaluate(*operand);
  Arguments arguments = arguments_of(expression);
  line_ = expression.line;
  return apply_filter(runtime_, expression.text, value, std::move(arguments));
}

Value Evaluator::evaluate_test(const Expression& expression) {
  const Value value = evaluate(*expression.parts[0]);
  Arguments arguments = arguments_of(expression);
  line_ = expression.line;
  return Value::boolean(apply_test(runtime_, expression.text, value, std::move(arguments)));
}

Value Evaluator::evaluate_logic(const Expression& expression) {
  if (expression.form == Form::kUnary) {
    const Value value = evaluate(*expression.parts[0]);
    return expression.text == "not" ? Value::boolean(!truth(value)) : signed_number(expression.text, value);
  }
  if (expression.form != Form::kAnd && expression.form != Form::kOr)
    throw Error("a slice or a target stands where a value belongs");
  Value value;
  for (const ExpressionPtr& part : expression.parts) {
    value = evaluate(*part);
    if (truth(value) == (expression.form == Form::kOr)) break;
  }
  return value;
}

Value Evaluator::evaluate_compare(const Expression& expression) {
  Value left = evaluate(*expression.parts[0]);
  for (std::size_t i = 0; i < expression.operators.size(); ++i) {
    Value right = evaluate(*expression.parts[i + 1]);
    line_ = expression.line;
    if (!compare(runtime_, expression.operators[i], left, right)) return Value::boolean(false);
    left = std::move(right);
  }
  return Value::boolean(true);
}

Value Evaluator::evaluate_concat(const Expression& expression) {
  TracedText out;
  for (const ExpressionPtr& part : expression.parts) {
    out.append(runtime_.text_of(evaluate(*part)));
    runtime_.check_text(out.size());
  }
  return runtime_.string(std::move(out));
}

Value Evaluator::evaluate_conditional(const Expression& expression) {
  if (truth(evaluate(*expression.parts[0]))) return evaluate(*expression.parts[1]);
  if (expression.parts[2] != nullptr) return evaluate(*expression.parts[2]);
  return Value::undefined("an inline if without else has no value on line " + std::to_string(expression.line));
}

namespace {

// The origin of a tool's answer among what a macro is called with: what the macro writes belongs to that answer.
std::optional<Origin> response_of(const Value& value) {
  if (value.origin().response) return value.origin();
  if (!value.is_string()) return std::nullopt;
  const auto& runs = value.text().runs();
  const auto run = std::find_if(runs.begin(), runs.end(), [](const TracedText::Run& r) { return r.origin.response; });
  return run == runs.end() ? std::nullopt : std::optional(run->origin);
}

}  // namespace

void Evaluator::bind_parameters(const MacroDefinition& definition, Arguments arguments) {
  const auto& names = definition.parameters;
  for (const Value& value : arguments.positional)
    if (const auto origin = response_of(value); origin && !runtime_.owner.response)
      runtime_.owner = {.message = origin->message, .response = true};
  const std::size_t given = std::min(names.size(), arguments.positional.size());
  for (std::size_t i = 0; i < names.size(); ++i) {
    const auto named = std::find_if(arguments.named.begin(), arguments.named.end(),
                                    [&](const auto& argument) { return argument.first == names[i]; });
    if (i < given) {
      scope_->set(names[i], arguments.positional[i]);
    } else if (named != arguments.named.end()) {
      scope_->set(names[i], std::move(named->second));
      arguments.named.erase(named);
    } else if (const std::size_t first = names.size() - definition.defaults.size(); i >= first) {
      scope_->set(names[i], evaluate(*definition.defaults[i - first]));
    } else {
      scope_->set(names[i],
                  Value::undefined("the parameter '" + names[i] + "' of " + definition.name + "() is not given"));
    }
  }
  bind_rest(definition, std::move(arguments), given);
}

void Evaluator::bind_rest(const MacroDefinition& definition, Arguments arguments, std::size_t given) {
  const auto& names = definition.parameters;
  const bool explicit_caller = std::find(names.begin(), names.end(), "caller") != names.end();
  if (definition.uses_caller && !explicit_caller) {
    const auto caller = std::find_if(arguments.named.begin(), arguments.named.end(),
                                     [](const auto& argument) { return argument.first == "caller"; });
    const bool found = caller != arguments.named.end();
    scope_->set("caller",
                found ? caller->second : Value::undefined("no {% call %} gives " + definition.name + "() a caller"));
    if (found) arguments.named.erase(caller);
  }
  if (definition.uses_kwargs) {
    auto dict = std::make_shared<DictObject>();
    for (auto& [name, value] : arguments.named) dict->set(Value::string({name, {}}), std::move(value));
    scope_->set("kwargs", Value::of(Kind::kDict, std::move(dict)));
  } else if (!arguments.named.empty()) {
    throw Error(definition.name, "() has no parameter '", arguments.named[0].first, "'");
  }
  const auto rest = arguments.positional.begin() + static_cast<std::ptrdiff_t>(given);
  if (definition.uses_varargs) {
    scope_->set("varargs", Value::tuple({rest, arguments.positional.end()}));
  } else if (rest != arguments.positional.end()) {
    throw Error(definition.name, "() takes at most ", names.size(), " values, got ", arguments.positional.size());
  }
}

}  // namespace bezel::jinja
