#pragma once

#include <array>
#include <string_view>
#include <utility>

#include "core/device.h"
#include "core/error.h"
#include "core/stream.h"

namespace fathom::kernels {

// The implementations of one operation, one entry per device type. Constant-initialized, so
// registrations from other files may run before or after it in any order. On the meta device a call
// does nothing, but where kernels of the device that is planned for take much memory for themselves
// an entry takes as much (kernels/meta/).
template <class Fn>
class KernelSlot;

template <class... Args>
class KernelSlot<void(Args...)> {
 public:
  using Function = void (*)(Args...);
  explicit constexpr KernelSlot(std::string_view operation) : operation_(operation) {}

  void add(DeviceType type, Function function) {
    functions_[static_cast<std::size_t>(type)] = function;
  }
  bool has(DeviceType type) const noexcept {
    return functions_[static_cast<std::size_t>(type)] != nullptr;
  }
  std::string_view operation() const noexcept { return operation_; }

  // Runs the kernel of the stream's device. Throws InternalError when this build has none.
  template <class... Given>
  void operator()(Stream& stream, Given&&... args) const {
    const Function function = functions_[static_cast<std::size_t>(stream.device().type)];
    if (stream.is_meta() && function == nullptr) {
      return;
    }
    FATHOM_CHECK(function != nullptr, operation_, ": no ", to_string(stream.device().type),
                 " kernel in this build");
    function(std::forward<Given>(args)..., stream);
  }

 private:
  std::string_view operation_;
  std::array<Function, 3> functions_{};
};

// One static object of this type at the end of a backend's file puts its kernel into the slot.
template <class Fn>
struct KernelRegistration {
  KernelRegistration(KernelSlot<Fn>& slot, DeviceType type, Fn* function) {
    slot.add(type, function);
  }
};

}  // namespace fathom::kernels
