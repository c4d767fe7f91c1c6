#pragma once

#include "bezel/io/json.h"
#include "bezel/jinja/value.h"

namespace bezel::jinja {

/// A JSON value as Python's json.loads() gives it; all of it has the given origin.
Value from_json(const io::Json& json, Origin origin = {});

/// The list of messages: everything in a message is its own text but its role. What a tool answered is marked.
Value messages_from_json(const io::Json& messages);

}  // namespace bezel::jinja
