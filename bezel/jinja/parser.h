#pragma once

#include <string>
#include <string_view>

#include "bezel/jinja/ast.h"

namespace bezel::jinja {

/// Parses a template as jinja2 does with transformers' settings: trim_blocks, lstrip_blocks, loop controls and
/// {% generation %}. Throws Error with `name` and the line on anything else, on other files that a template tries to
/// read (include, import, extends), and on nesting deeper than 100.
Body parse_template(std::string_view source, const std::string& name);

}  // namespace bezel::jinja
