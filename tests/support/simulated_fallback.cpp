#include "support/simulated_fallback.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <ATen/core/LegacyTypeDispatch.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include "support/simulated_counters.h"
#include "support/simulated_device.h"
#include "support/simulated_generator.h"
#include "support/simulated_views.h"

namespace bezel::simulated {
namespace {

using at::IValue;
using at::Tensor;
using torch::jit::Stack;

// The size of what they give depends on data, so a real device is waited for.
constexpr std::array<std::string_view, 12> kDataSized{
    "aten::nonzero",           "aten::masked_select", "aten::bincount",           "aten::_unique",
    "aten::_unique2",          "aten::unique_dim",    "aten::unique_consecutive", "aten::unique_dim_consecutive",
    "aten::repeat_interleave", "aten::_linalg_svd",   "aten::_linalg_eigh",       "aten::histogram"};
// Ask or change what the host knows anyway.
constexpr std::array<std::string_view, 5> kBookkeeping{"aten::resize_", "aten::is_same_size", "aten::is_set_to",
                                                       "aten::_fused_sdp_choice", "aten::is_pinned"};
constexpr std::array<std::string_view, 5> kIndexing{"aten::index", "aten::index_put", "aten::index_put_",
                                                    "aten::_index_put_impl_", "aten::_unsafe_index"};

template <std::size_t N>
bool is_one_of(std::string_view name, const std::array<std::string_view, N>& names) {
  return std::ranges::find(names, name) != names.end();
}

/// The arguments of one call, as the CPU's kernel gets them.
class Arguments {
 public:
  Arguments(const c10::OperatorHandle& op, Stack& stack)
      : name_(op.schema().name()), schema_(op.schema()), given_(schema_.arguments().size()) {
    const auto arguments = torch::jit::last(stack, given_.size());
    std::ranges::copy(arguments, given_.begin());
    if (schema_.name().ends_with("_copy_from")) return;
    for (std::size_t i = 0; i < given_.size(); ++i)
      stack[stack.size() - given_.size() + i] = for_host(given_[i], *schema_.arguments()[i].real_type());
    TORCH_CHECK(!mixed_ || views_.empty() || is_one_of(name_, kIndexing), name_, ": a tensor ", mixed_->sizes(),
                " of the CPU meets tensors of the device");
    if (mixed_ && !views_.empty()) count_to_device(static_cast<std::int64_t>(mixed_->nbytes()));
  }

  bool any_on_device() const { return !views_.empty() || asked_device_; }

  /// What of the device the arguments of an alias set are.
  const IValue& aliased(const c10::AliasInfo& alias) const {
    for (std::size_t i = 0; i < given_.size(); ++i)
      if (const c10::AliasInfo* own = schema_.arguments()[i].alias_info();
          own != nullptr && own->beforeSets() == alias.beforeSets())
        return given_[i];
    TORCH_CHECK(false, name_, ": no argument for a result that aliases one");
  }

  /// Brings changes of size and memory back.
  void adopt_written() const {
    for (const auto& [impl, view] : views_) {
      adopt(view.device, view.host);
      name_after(view.device, name_.c_str());
    }
  }

  /// A mask as an index is looked through for what it selects. (Reading by one calls nonzero itself.)
  bool has_mask() const {
    if (name_ != "aten::_index_put_impl_" || given_[2].toTensor().numel() == 1) return false;
    for (const auto& element : given_[1].toListRef()) {
      if (!element.isTensor() || !element.toTensor().defined()) continue;
      const at::ScalarType dtype = element.toTensor().scalar_type();
      if (dtype == at::kBool || dtype == at::kByte) return true;
    }
    return false;
  }

 private:
  struct View {
    Tensor device, host;
  };

  Tensor view(const Tensor& tensor) {
    if (!is_on_device(tensor)) {
      if (tensor.defined() && tensor.dim() > 0) mixed_ = tensor;
      return tensor;
    }
    View& found = views_[tensor.unsafeGetTensorImpl()];
    if (!found.host.defined()) found = {tensor, host_view(tensor)};
    return found.host;
  }

  IValue for_host(const IValue& value, const c10::Type& type) {
    if (value.isTensor()) return view(value.toTensor());
    if (value.isTensorList()) {
      c10::List<Tensor> list;
      for (const Tensor& tensor : value.toTensorVector()) list.push_back(view(tensor));
      return list;
    }
    if (value.isOptionalTensorList()) {
      c10::List<std::optional<Tensor>> list;
      for (const std::optional<Tensor>& tensor : value.toOptionalTensorVector())
        list.push_back(tensor ? std::optional(view(*tensor)) : std::nullopt);
      return list;
    }
    if (value.isDevice() && value.toDevice().is_privateuseone()) {
      asked_device_ = true;
      return c10::Device(c10::kCPU);
    }
    if (value.isGenerator()) return value.toGenerator().device() == kDevice ? numbers_of(value.toGenerator()) : value;
    if (value.isNone() && type.str() == "Generator?") return default_numbers();
    return value;
  }

  const std::string& name_;
  const c10::FunctionSchema& schema_;
  std::vector<IValue> given_;
  std::unordered_map<c10::TensorImpl*, View> views_;
  std::optional<Tensor> mixed_;
  bool asked_device_ = false;
};

Tensor result_on_device(const Tensor& host, const char* name) {
  if (!host.defined()) return host;
  Tensor made = to_device(host);
  name_after(made, name);
  return made;
}

IValue result(const IValue& host, const c10::AliasInfo* alias, const Arguments& arguments, const char* name) {
  if (alias != nullptr && alias->isWrite()) return arguments.aliased(*alias);
  if (host.isTensor()) {
    return alias != nullptr ? device_view(host.toTensor(), arguments.aliased(*alias).toTensor())
                            : result_on_device(host.toTensor(), name);
  }
  if (!host.isTensorList()) return host;
  c10::List<Tensor> list;
  for (const Tensor& tensor : host.toTensorVector())
    list.push_back(alias != nullptr ? device_view(tensor, arguments.aliased(*alias).toTensor())
                                    : result_on_device(tensor, name));
  return list;
}

void count(const c10::FunctionSchema& schema, const Arguments& arguments) {
  const std::string& name = schema.name();
  if (is_one_of(name, kBookkeeping)) return;
  bool is_view = !schema.returns().empty(), gives_values = false;
  for (const c10::Argument& given : schema.returns()) {
    is_view = is_view && given.alias_info() != nullptr && !given.alias_info()->isWrite();
    gives_values = gives_values || given.type()->kind() == c10::TypeKind::BoolType;
  }
  if (is_view) return;
  count_launch(name);
  if (is_one_of(name, kDataSized) || gives_values || arguments.has_mask()) count_synchronization(name);
}

}  // namespace

void run_on_host(const c10::OperatorHandle& op, Stack* stack) {
  const c10::FunctionSchema& schema = op.schema();
  const at::AutoDispatchBelowADInplaceOrView below;
  const Arguments arguments(op, *stack);
  op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  arguments.adopt_written();
  if (!arguments.any_on_device()) return;
  const std::size_t count_returns = schema.returns().size();
  for (std::size_t i = 0; i < count_returns; ++i) {
    IValue& value = (*stack)[stack->size() - count_returns + i];
    value = result(value, schema.returns()[i].alias_info(), arguments, schema.name().c_str());
  }
  count(schema, arguments);
}

}  // namespace bezel::simulated
