#include "bezel/jinja/from_json.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "bezel/jinja/template.h"

namespace bezel::jinja {
namespace {

Value from_object(const io::Json& json, Origin origin) {
  auto dict = std::make_shared<DictObject>();
  for (const auto& [key, value] : json.get_ref<const io::Json::object_t&>()) {
    Origin inner = origin;
    inner.response = origin.response || (origin.message >= 0 && key == "tool_responses");
    dict->set(Value::string({key, origin}), from_json(value, inner));
  }
  return Value::of(Kind::kDict, std::move(dict));
}

Value from_scalar(const io::Json& json, Origin origin) {
  if (json.is_boolean()) return Value::boolean(json.get<bool>());
  if (json.is_number_float()) return Value::real(json.get<double>());
  if (json.is_number_unsigned() && json.get<std::uint64_t>() > INT64_MAX)
    return Value::big_integer(std::to_string(json.get<std::uint64_t>()));
  if (json.is_number_integer()) return Value::integer(json.get<std::int64_t>());
  if (auto digits = io::big_integer(json)) return Value::big_integer(std::move(*digits));
  if (json.is_string()) return Value::string({json.get_ref<const std::string&>(), origin});
  return Value::none();
}

Value message_from_json(const io::Json& json, std::int32_t index) {
  const auto role = json.find("role");
  const bool is_response = role != json.end() && role->is_string() && is_tool_role(role->get_ref<const std::string&>());
  const Origin own{.message = index, .own = true, .response = is_response};
  Value message = from_object(json, own);
  if (role != json.end() && role->is_string()) {
    Origin header = own;
    header.own = false;
    message.as<DictObject>().set(Value::string({"role", own}),
                                 Value::string({role->get_ref<const std::string&>(), header}));
  }
  message.set_origin(own);
  return message;
}

}  // namespace

bool is_tool_role(std::string_view role) {
  constexpr std::string_view kRoles[] = {"tool", "function", "ipython", "observation", "tool_response"};
  return std::find(std::begin(kRoles), std::end(kRoles), role) != std::end(kRoles);
}

Value from_json(const io::Json& json, Origin origin) {
  Value value;
  if (json.is_object()) {
    value = from_object(json, origin);
  } else if (json.is_array()) {
    std::vector<Value> items;
    for (const io::Json& item : json) items.push_back(from_json(item, origin));
    value = Value::list(std::move(items));
  } else {
    value = from_scalar(json, origin);
  }
  value.set_origin(origin);
  return value;
}

Value messages_from_json(const io::Json& messages) {
  if (!messages.is_array()) return from_json(messages);
  std::vector<Value> items;
  std::int32_t index = 0;
  for (const io::Json& message : messages) {
    items.push_back(message.is_object() ? message_from_json(message, index) : from_json(message));
    ++index;
  }
  return Value::list(std::move(items));
}

}  // namespace bezel::jinja
