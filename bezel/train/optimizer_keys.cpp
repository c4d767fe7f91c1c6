#include <algorithm>

#include "bezel/error.h"
#include "bezel/train/config_fields.h"
#include "bezel/train/config_readers.h"
#include "bezel/train/word_list.h"

namespace bezel::train {
namespace {

/// A name of an optimizer in transformers, axolotl or LLaMA-Factory.
struct OptimizerName {
  std::string_view names;  ///< with spaces between them
  OptimizerKind kind;
  std::string_view note;  ///< what is done otherwise; "" when it is the same
};

constexpr std::string_view kNotPaged = "moments stay in memory, since those of an adapter are small";
constexpr std::string_view kFloatMoments = "AdamW, with moments in float32; those of an adapter are small";

constexpr OptimizerName kOptimizerSpellings[] = {
    {"adamw adamw_torch adamw_torch_fused adamw_hf adamw_apex_fused adamw_torch_xla adamw_torch_npu_fused "
     "optimi_adamw flash_adamw",
     OptimizerKind::kAdamW, ""},
    {"paged_adamw paged_adamw_32bit", OptimizerKind::kAdamW, kNotPaged},
    {"adamw_torch_4bit adamw_anyprecision ao_adamw_4bit ao_adamw_fp8", OptimizerKind::kAdamW, kFloatMoments},
    {"adamw_8bit adamw_bnb_8bit", OptimizerKind::kAdamW8bit, ""},
    {"paged_adamw_8bit", OptimizerKind::kAdamW8bit, kNotPaged},
    {"adamw_torch_8bit ao_adamw_8bit", OptimizerKind::kAdamW8bit, "8-bit moments as bitsandbytes stores them"},
    {"adafactor", OptimizerKind::kAdafactor, ""},
    {"lion lion_32bit lion_pytorch", OptimizerKind::kLion, ""},
    {"paged_lion_32bit", OptimizerKind::kLion, kNotPaged},
    {"muon", OptimizerKind::kMuon, ""},
};

/// Calls visit(name, member) for each option.
template <typename Options, typename Visit>
void each_option(Options& options, Visit visit) {
  visit("min_8bit_size", options.min_8bit_size);
  visit("clip_threshold", options.clip_threshold);
  visit("decay_rate", options.decay_rate);
  visit("beta1", options.beta1);
  visit("momentum", options.momentum);
  visit("nesterov", options.nesterov);
  visit("ns_steps", options.ns_steps);
  visit("adjust_lr_fn", options.adjust_lr_fn);
}

// What transformers' Trainer switches off in Adafactor, and recipes write all the same.
bool is_switched_off(const std::string& name, const ConfigValue& item) {
  return is_listed("scale_parameter relative_step warmup_init", name) && item.is_off();
}

// "momentum=0.9,nesterov=True", as transformers takes it.
ConfigValue map_of_text(const ConfigValue& value) {
  if (value.text.starts_with('{')) return parse_flag_value(value.key, value.where, value.text);
  ConfigValue map{
      .kind = ConfigValue::Kind::kMap, .text = {}, .where = value.where, .key = value.key, .items = {}, .members = {}};
  for (const std::string& part : value.as_texts()) {
    const std::size_t equals = part.find('=');
    if (equals == std::string::npos) value.fail("a map such as {momentum: 0.95}, or a text such as momentum=0.95");
    ConfigMember member{part.substr(0, equals), value};
    member.value.key = member.name;
    member.value.text = part.substr(equals + 1);
    map.members.push_back(std::move(member));
  }
  return map;
}

const ConfigValue* member_of(const ConfigValue& map, std::string_view name) {
  const auto found = std::ranges::find(map.members, name, &ConfigMember::name);
  return found == map.members.end() ? nullptr : &found->value;
}

RateGroup read_group(const ConfigValue& item, std::size_t number) {
  if (item.kind != ConfigValue::Kind::kMap) item.fail("a list of maps such as {name: b, modules: [lora_B], lr: 1e-4}");
  for (const ConfigMember& member : item.members)
    if (!is_listed("name modules lr", member.name))
      throw Error(ErrorKind::kConfig, member.value.where, ": key '", member.name.substr(0, 80),
                  "' is none of an item of lr_groups; expected name, modules, lr");
  const ConfigValue *name = member_of(item, "name"), *modules = member_of(item, "modules"), *lr = member_of(item, "lr");
  if (modules == nullptr || lr == nullptr) item.fail("modules and lr in each item of lr_groups");
  RateGroup group{.name = name != nullptr ? name->as_text() : std::to_string(number),
                  .modules = modules->as_texts(),
                  .learning_rate = lr->as_number()};
  if (group.modules.empty()) modules->fail("parts of module names, such as [o_proj]");
  return group;
}

}  // namespace

void read_optimizer(TrainConfig& config, const ConfigValue& value) {
  const std::string name = value.lower_text();
  const auto* const found =
      std::ranges::find_if(kOptimizerSpellings, [&](const OptimizerName& item) { return is_listed(item.names, name); });
  if (name == "lion_8bit" || name == "paged_lion_8bit") value.fail("lion_32bit: Lion's moment has no 8-bit form here");
  if (found == std::end(kOptimizerSpellings))
    value.fail("adamw, adamw_8bit, adafactor, lion or muon; others are not built");
  config.optimizer = found->kind;
  if (!found->note.empty()) config.notes.push_back(value.key + " " + name + ": " + std::string(found->note));
}

std::string write_optimizer(const TrainConfig& config) {
  return std::string(optimizer_names()[static_cast<std::size_t>(config.optimizer)]);
}

// LLaMA-Factory's Muon scales rates to AdamW's, which is the default here.
void read_use_muon(TrainConfig& config, const ConfigValue& value) {
  if (value.as_bool()) config.optimizer = OptimizerKind::kMuon;
}

void read_optim_args(TrainConfig& config, const ConfigValue& value) {
  const ConfigValue map = value.kind == ConfigValue::Kind::kScalar ? map_of_text(value) : value;
  if (map.kind != ConfigValue::Kind::kMap) value.fail("a map, such as {momentum: 0.95}");
  config.optim_args = {};
  for (const auto& [name, item] : map.members) {
    bool known = is_switched_off(name, item);
    each_option(config.optim_args, [&, &name = name, &item = item](std::string_view option, auto& member) {
      if (option != name) return;
      known = true;
      if (!item.is_empty()) assign(member, item);
    });
    if (!known)
      throw Error(ErrorKind::kConfig, item.where, ": key '", name.substr(0, 80), "' is no option of optim_args; ",
                  "adafactor takes clip_threshold, decay_rate, beta1; muon momentum, nesterov, ns_steps, adjust_lr_fn; "
                  "adamw_8bit min_8bit_size; betas and epsilon are adam_beta1, adam_beta2, adam_epsilon");
  }
}

GivenOptions given(const OptimizerOptions& options) {
  GivenOptions given;
  each_option(options, [&](std::string_view name, const auto& member) { given.add(name, show(member)); });
  return given;
}

std::string write_optim_args(const TrainConfig& config) { return given(config.optim_args).yaml(); }

void read_lr_groups(TrainConfig& config, const ConfigValue& value) {
  config.lr_groups.clear();
  if (value.kind != ConfigValue::Kind::kList)
    value.fail("a list of maps such as {name: b, modules: [lora_B], lr: 1e-4}");
  for (const ConfigValue& item : value.items) config.lr_groups.push_back(read_group(item, config.lr_groups.size() + 1));
}

std::string write_lr_groups(const TrainConfig& config) {
  std::string out = "[";
  for (const RateGroup& group : config.lr_groups)
    out += (out.size() > 1 ? ", " : "") + ("{name: " + show(group.name)) + ", modules: " + show(group.modules) +
           ", lr: " + show(group.learning_rate) + "}";
  return out + "]";
}

}  // namespace bezel::train
