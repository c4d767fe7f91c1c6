#pragma once

#include "bezel/jinja/runtime.h"

namespace bezel::jinja {

/// format % value, as Python's str does; `value` is a tuple, a dict or one value.
TracedText format_percent(Runtime& runtime, const TracedText& format, const Value& value);

/// format.format(arguments). Throws Error for a format specification other than of width, alignment and precision.
TracedText format_braces(Runtime& runtime, const TracedText& format, const Arguments& arguments);

}  // namespace bezel::jinja
