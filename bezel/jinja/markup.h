#pragma once

#include "bezel/jinja/runtime.h"

namespace bezel::jinja {

/// str(value) with & < > ' " as HTML entities; a text that is marked safe stays as it is.
TracedText escaped(Runtime& runtime, const Value& value);

}  // namespace bezel::jinja
