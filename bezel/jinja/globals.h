#pragma once

#include <string_view>

#include "bezel/jinja/evaluator.h"

namespace bezel::jinja {

/// Adds the functions that transformers gives to chat templates: range, dict, namespace, raise_exception and
/// strftime_now.
void add_globals(Scope& scope);

}  // namespace bezel::jinja
