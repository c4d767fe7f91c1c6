#include "bezel/jinja/template.h"

#include <algorithm>

#include "bezel/error.h"
#include "bezel/jinja/evaluator.h"
#include "bezel/jinja/from_json.h"
#include "bezel/jinja/globals.h"
#include "bezel/jinja/parser.h"

namespace bezel::jinja {
namespace {

bool has_generation(const Body& body) {
  return std::any_of(body.begin(), body.end(), [](const auto& statement) {
    const auto& branches = statement->branches;
    return statement->form == Statement::Form::kGeneration || has_generation(statement->body) ||
           has_generation(statement->else_body) ||
           (statement->macro != nullptr && has_generation(statement->macro->body)) ||
           std::any_of(branches.begin(), branches.end(),
                       [](const auto& branch) { return has_generation(branch.second); });
  });
}

std::tm local_time() {
  const std::time_t now = std::time(nullptr);
  std::tm out{};
  localtime_r(&now, &out);
  return out;
}

}  // namespace

Template Template::parse(std::string_view source, const std::string& name) {
  Template out;
  out.name_ = name;
  out.body_ = std::make_shared<const Body>(parse_template(source, name));
  out.has_generation_ = jinja::has_generation(*out.body_);
  return out;
}

TracedText Template::render(const Context& context) const {
  Runtime runtime(context.limits, context.now ? context.now : local_time);
  const auto globals = std::make_shared<Scope>(nullptr);
  add_globals(*globals);
  const auto variables = std::make_shared<Scope>(globals);
  Evaluator evaluator(runtime, variables);
  try {
    if (context.variables != nullptr)
      for (const auto& [key, value] : context.variables->get_ref<const io::Json::object_t&>())
        variables->set(key, key == "messages" ? messages_from_json(value) : from_json(value));
    return evaluator.render(*body_);
  } catch (const Error& error) {
    throw Error(name_, ": line ", evaluator.line(), ": ", error.what());
  }
}

}  // namespace bezel::jinja
