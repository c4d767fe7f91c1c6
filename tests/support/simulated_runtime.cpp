// What LibTorch asks of a backend beside kernels: memory, the current device, random numbers.

#include <algorithm>
#include <cstring>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <c10/core/Allocator.h>
#include <c10/core/DeviceType.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include "support/simulated_device.h"
#include "support/simulated_generator.h"
#include "support/simulated_memory.h"

namespace bezel::simulated {
namespace {

class DeviceAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override {
    if (bytes == 0) return {nullptr, kDevice};
    void* block = simulated::allocate(bytes);
    return {block, block, &release, kDevice};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    std::memcpy(to_host(to), to_host(from), bytes);
  }
};

// One device, one stream.
struct Guard final : c10::impl::NoOpDeviceGuardImpl<c10::DeviceType::PrivateUse1> {
  c10::Device exchangeDevice(c10::Device) const override { return kDevice; }
  c10::Device getDevice() const override { return kDevice; }
  c10::Stream getStream(c10::Device) const noexcept override { return stream(); }
  c10::Stream getDefaultStream(c10::Device) const override { return stream(); }
  c10::Stream getNewStream(c10::Device, int) const override { return stream(); }
  c10::Stream exchangeStream(c10::Stream) const noexcept override { return stream(); }
  void record(void**, const c10::Stream&, c10::DeviceIndex, c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }

 private:
  static c10::Stream stream() { return c10::Stream(c10::Stream::DEFAULT, kDevice); }
};
const c10::impl::DeviceGuardImplRegistrar kGuard(c10::DeviceType::PrivateUse1, new Guard);

/// The CPU's random numbers under another device: a seed gives the numbers that it gives there.
class DeviceGenerator final : public c10::GeneratorImpl {
 public:
  explicit DeviceGenerator(at::Generator numbers)
      : c10::GeneratorImpl(kDevice, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1)), numbers_(std::move(numbers)) {}

  void set_current_seed(std::uint64_t seed) override { numbers_.set_current_seed(seed); }
  void set_offset(std::uint64_t offset) override { numbers_.set_offset(offset); }
  std::uint64_t get_offset() const override { return numbers_.get_offset(); }
  std::uint64_t current_seed() const override { return numbers_.current_seed(); }
  std::uint64_t seed() override { return const_cast<at::Generator&>(numbers_).seed(); }
  void set_state(const c10::TensorImpl& state) override { numbers_.unsafeGetGeneratorImpl()->set_state(state); }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override {
    return numbers_.unsafeGetGeneratorImpl()->get_state();
  }
  const at::Generator& numbers() const { return numbers_; }

 private:
  DeviceGenerator* clone_impl() const override { return new DeviceGenerator(numbers_.clone()); }

  at::Generator numbers_;
};

const at::Generator& default_generator() {
  static const auto* const generator =
      new at::Generator(at::make_generator<DeviceGenerator>(at::detail::createCPUGenerator()));
  return *generator;
}

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  void setCurrentDevice(c10::DeviceIndex) const override {}
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex) const override { return 0; }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex) const override { return 0; }
  at::Device getDeviceFromPtr(void*) const override { return kDevice; }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override { return default_generator(); }
  at::Generator getNewGenerator(c10::DeviceIndex) const override {
    return at::make_generator<DeviceGenerator>(at::detail::createCPUGenerator());
  }
  void resizePrivateUse1Bytes(const c10::Storage& storage, std::size_t bytes) const override {
    c10::DataPtr grown = c10::GetAllocator(c10::DeviceType::PrivateUse1)->allocate(bytes);
    const std::size_t kept = std::min(bytes, storage.nbytes());
    if (kept > 0) std::memcpy(to_host(grown.get()), to_host(storage.data()), kept);
    storage.set_data_ptr_noswap(std::move(grown));
    storage.set_nbytes(bytes);
  }
};

bool registered = [] {
  static DeviceAllocator allocator;
  c10::SetAllocator(c10::DeviceType::PrivateUse1, &allocator);
  at::RegisterPrivateUse1HooksInterface(new Hooks);
  c10::register_privateuse1_backend("simulated");
  install_fault_report();
  return true;
}();

}  // namespace

at::Generator numbers_of(const at::Generator& generator) {
  return static_cast<DeviceGenerator*>(generator.unsafeGetGeneratorImpl())->numbers();
}
at::Generator default_numbers() { return numbers_of(default_generator()); }

}  // namespace bezel::simulated
