#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bezel/jinja/value.h"

namespace bezel::jinja {

struct Expression;
struct Statement;
using ExpressionPtr = std::unique_ptr<Expression>;
using Body = std::vector<std::unique_ptr<Statement>>;

struct Expression {
  enum class Form {
    kConstant,   ///< constant
    kText,       ///< text: a string literal
    kName,       ///< text
    kReference,  ///< parts[0] is a kName, text its attribute; as a target only
    kList,       ///< parts
    kTuple,
    kDict,       ///< parts: key, value, key, value ...
    kAttribute,  ///< parts[0].text
    kItem,       ///< parts[0][parts[1]]
    kSlice,      ///< begin, end, step; each may be null; inside kItem only
    kCall,       ///< parts[0](parts[1...], named, spread, spread_named)
    kFilter,     ///< parts[0] | text(...); parts[0] is null where the value is the body of a block
    kTest,       ///< parts[0] is text(...)
    kUnary,      ///< text: "-", "+" or "not"
    kBinary,     ///< text: an operator of arithmetic
    kAnd,
    kOr,
    kCompare,     ///< parts[0] operators[0] parts[1] operators[1] ...
    kConcat,      ///< parts joined by ~
    kConditional  ///< parts: test, value, other; other may be null
  };

  Form form = Form::kConstant;
  int line = 1;
  int height = 1;  ///< levels of operands, this one included
  std::string text{};
  Value constant{};
  std::vector<ExpressionPtr> parts{};
  std::vector<std::pair<std::string, ExpressionPtr>> named{};
  ExpressionPtr spread{}, spread_named{};
  std::vector<std::string> operators{};
};

/// Parameters and body of a macro or a call block.
struct MacroDefinition {
  std::string name;
  std::vector<std::string> parameters;
  std::vector<ExpressionPtr> defaults;  ///< of the last parameters
  Body body;
  bool uses_caller = false, uses_varargs = false, uses_kwargs = false;
};

struct Statement {
  enum class Form {
    kData,        ///< text
    kPrint,       ///< value
    kIf,          ///< branches; a branch without a test is `else`
    kFor,         ///< target in value if test: body, else_body
    kSet,         ///< target = value
    kSetBlock,    ///< target = body | value; value may be null
    kMacro,       ///< macro
    kCall,        ///< value is a kCall; macro is its caller
    kFilter,      ///< body | value
    kWith,        ///< targets = values: body
    kGeneration,  ///< body
    kBreak,
    kContinue
  };

  Form form = Form::kData;
  int line = 1;
  std::string text{};
  ExpressionPtr target{}, value{}, test{};
  bool recursive = false;
  std::vector<std::pair<ExpressionPtr, Body>> branches{};
  std::vector<std::pair<ExpressionPtr, ExpressionPtr>> assignments{};
  Body body{}, else_body{};
  std::shared_ptr<const MacroDefinition> macro{};
};

}  // namespace bezel::jinja
