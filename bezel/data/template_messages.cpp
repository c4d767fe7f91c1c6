#include "bezel/data/template_messages.h"

#include "bezel/error.h"
#include "bezel/input/media_kind.h"

namespace bezel::data {
namespace {

using io::Json;
using io::JsonView;

void rename_part(Json& part) {
  if (!part.is_object() || !part.contains("type") || !part["type"].is_string()) return;
  if (const auto kind = input::kind_of_part(part["type"].get_ref<const std::string&>()))
    part["type"] = input::kMediaWords[*kind].part;
}

// {type, function: {name, arguments}} of a call or a tool that may lack the object around its function.
Json wrapped(const Json& given) {
  if (!given.is_object() || (given.contains("function") && given["function"].is_object())) return given;
  Json out = {{"type", "function"}, {"function", given}};
  if (given.contains("id")) {
    out["id"] = given["id"];
    out["function"].erase("id");
  }
  if (given.contains("type")) {
    out["type"] = given["type"];
    out["function"].erase("type");
  }
  return out;
}

Json call_of(const JsonView& given) {
  Json call = wrapped(given.value());
  if (!call.is_object() || !call["function"].is_object() || !call["function"].contains("arguments")) return call;
  Json& arguments = call["function"]["arguments"];
  if (!arguments.is_string()) return call;
  const std::string text = arguments.get<std::string>();
  const std::string place = given.source() + ": key '" + given.key() + ".function.arguments'";
  const bool is_blank = text.find_first_not_of(" \t\r\n") == std::string::npos;
  io::JsonLimits limits;
  limits.keeps_big_integers = true;
  arguments = is_blank ? Json::object() : io::parse_json(text, place, limits);
  if (!arguments.is_object()) throw Error(place, ": expected an object, or a text that holds one as JSON");
  return call;
}

// transformers' _alias_reasoning_fields().
Json with_reasoning(const Json& message) {
  for (const char* name : {"reasoning_content", "thinking", "reasoning"}) {
    if (!message.contains(name) || message[name].is_null()) continue;
    Json out = {{"thinking", message[name]}};
    for (const auto& [key, value] : message.items()) out[key] = value;
    out["reasoning_content"] = message[name];
    return out;
  }
  return message;
}

}  // namespace

Json template_messages(const JsonView& messages) {
  Json out = Json::array();
  for (const JsonView& given : messages.elements()) {
    Json message = given.value();
    if (message.contains("role") && message["role"] == "model") message["role"] = "assistant";
    if (message.contains("content") && message["content"].is_array())
      for (Json& part : message["content"]) rename_part(part);
    if (const auto calls = given.find("tool_calls")) {
      Json list = Json::array();
      for (const JsonView& call : calls->elements()) list.push_back(call_of(call));
      message["tool_calls"] = std::move(list);
    }
    out.push_back(with_reasoning(message));
  }
  return out;
}

Json template_tools(const Json* tools) {
  if (tools == nullptr || !tools->is_array() || tools->empty()) return nullptr;
  Json out = Json::array();
  for (const Json& tool : *tools) out.push_back(wrapped(tool));
  return out;
}

}  // namespace bezel::data
