#include "bezel/data/chat_tools.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include "bezel/error.h"

namespace bezel::data {
namespace {

using io::Json;
using io::JsonView;

constexpr std::string_view kQuote = "<|\"|>";

std::string in_quotes(std::string_view text) { return std::string(kQuote).append(text).append(kQuote); }

std::string cased(std::string text, bool upper) {
  const char from = upper ? 'a' : 'A';
  for (char& c : text)
    if (c >= from && c <= from + 25) c = static_cast<char>(c ^ 0x20);
  return text;
}

// Members in the order the template's dictsort gives: by name, letter case ignored, otherwise as written.
std::vector<std::pair<std::string_view, const Json*>> sorted_members(const Json& object) {
  std::vector<std::pair<std::string, std::pair<std::string_view, const Json*>>> keyed;
  for (const auto& [name, value] : object.get_ref<const Json::object_t&>())
    keyed.push_back({cased(name, false), {name, &value}});
  std::stable_sort(keyed.begin(), keyed.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<std::pair<std::string_view, const Json*>> out;
  for (const auto& [lower, member] : keyed) out.push_back(member);
  return out;
}

// A list of "name:value" with commas between, in braces.
class Fields {
 public:
  void add(std::string_view name, const std::string& value) {
    if (!text_.empty()) text_ += ',';
    text_.append(name).append(":").append(value);
  }
  std::string braced() const { return "{" + text_ + "}"; }

 private:
  std::string text_;
};

std::string render_value(const Json& value, bool quote_keys) {
  if (value.is_string()) return in_quotes(value.get_ref<const std::string&>());
  if (value.is_object()) {
    Fields fields;
    for (const auto& [name, member] : sorted_members(value))
      fields.add(quote_keys ? in_quotes(name) : std::string(name), render_value(*member, quote_keys));
    return fields.braced();
  }
  if (value.is_null()) return "None";  // as Jinja prints it
  if (!value.is_array()) return io::big_integer(value).value_or(value.is_binary() ? "" : value.dump());
  std::string out = "[";
  for (const Json& element : value) {
    if (out.size() > 1) out += ',';
    out += render_value(element, quote_keys);
  }
  return out + "]";
}

bool truthy(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && !found->is_null() && !(found->is_boolean() && !found->get<bool>()) &&
         !(found->is_string() && found->get_ref<const std::string&>().empty()) &&
         !(found->is_structured() && found->empty());
}

std::string render_type(const Json& type) {
  if (type.is_string()) return in_quotes(cased(type.get<std::string>(), true));
  Json upper = type;
  if (upper.is_array())
    for (Json& name : upper)
      if (name.is_string()) name = cased(name.get<std::string>(), true);
  return render_value(upper, true);
}

std::string render_properties(const Json& properties);

std::string render_items(const Json& items) {
  Fields fields;
  for (const auto& [name, value] : sorted_members(items)) {
    if (value->is_null()) continue;
    if (name == "properties") {
      fields.add(name, value->is_object() ? render_properties(*value) : "{}");
    } else {
      fields.add(name, name == "type" ? render_type(*value) : render_value(*value, true));
    }
  }
  return fields.braced();
}

std::string render_schema(const Json& schema) {
  Fields fields;
  const auto type = schema.find("type");
  const std::string kind = type != schema.end() && type->is_string() ? cased(type->get<std::string>(), true) : "";
  if (truthy(schema, "description")) fields.add("description", render_value(schema["description"], true));
  if (kind == "STRING" && truthy(schema, "enum")) fields.add("enum", render_value(schema["enum"], true));
  if (kind == "ARRAY" && truthy(schema, "items") && schema["items"].is_object())
    fields.add("items", render_items(schema["items"]));
  if (truthy(schema, "nullable")) fields.add("nullable", "true");
  if (kind == "OBJECT") {
    if (const auto properties = schema.find("properties"); properties != schema.end() && properties->is_object())
      fields.add("properties", render_properties(*properties));
    if (truthy(schema, "required")) fields.add("required", render_value(schema["required"], true));
  }
  if (type != schema.end()) fields.add("type", render_type(*type));
  return fields.braced();
}

std::string render_properties(const Json& properties) {
  Fields fields;
  for (const auto& [name, schema] : sorted_members(properties))
    fields.add(name, schema->is_object() ? render_schema(*schema) : "{}");
  return fields.braced();
}

std::string render_parameters(const Json& parameters) {
  Fields fields;
  if (truthy(parameters, "properties") && parameters["properties"].is_object())
    fields.add("properties", render_properties(parameters["properties"]));
  if (truthy(parameters, "required")) fields.add("required", render_value(parameters["required"], true));
  if (truthy(parameters, "type")) fields.add("type", render_type(parameters["type"]));
  return fields.braced();
}

}  // namespace

std::string render_tool_declaration(const JsonView& tool) {
  const JsonView function = tool.find("function").value_or(tool);
  Fields fields;
  const auto description = function.find("description");
  fields.add("description", in_quotes(description ? description->text() : ""));
  if (const auto parameters = function.find("parameters")) {
    if (!parameters->is_object()) parameters->fail("an object");
    if (!parameters->value().empty()) fields.add("parameters", render_parameters(parameters->value()));
  }
  if (const auto response = function.find("response")) {
    if (!response->is_object()) response->fail("an object");
    Fields inner;
    const Json& value = response->value();
    if (truthy(value, "description")) inner.add("description", render_value(value["description"], true));
    if (truthy(value, "type")) inner.add("type", render_type(value["type"]));
    fields.add("response", inner.braced());
  }
  return "<|tool>declaration:" + function.at("name").text() + fields.braced() + "<tool|>";
}

std::string render_tool_call(const JsonView& call) {
  const JsonView function = call.find("function").value_or(call);
  Json arguments = Json::object();
  if (const auto given = function.find("arguments")) {
    const bool as_text = given->is_string();
    io::JsonLimits limits;
    limits.keeps_big_integers = true;
    if (as_text && given->text().find_first_not_of(" \t\r\n") == std::string::npos)
      return "<|tool_call>call:" + function.at("name").text() + "{}<tool_call|>";
    arguments = as_text ? io::parse_json(given->text(), given->source() + ": key '" + given->key() + "'", limits)
                        : given->value();
    if (!arguments.is_object()) given->fail("an object, or a string that holds one as JSON");
  }
  return "<|tool_call>call:" + function.at("name").text() + render_value(arguments, false) + "<tool_call|>";
}

std::string render_tool_response(const std::string& name, const Json& response) {
  const std::string body =
      response.is_object() ? render_value(response, false) : "{value:" + render_value(response, false) + "}";
  return "<|tool_response>response:" + name + body + "<tool_response|>";
}

}  // namespace bezel::data
