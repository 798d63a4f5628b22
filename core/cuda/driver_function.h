#pragma once

namespace fathom {

// A function of the CUDA driver, which comes from the runtime so that a program links without the
// driver. Throws DeviceError when the driver has none of this name.
void* driver_symbol(const char* name);

template <class Function>
Function driver_function(const char* name) {
  return reinterpret_cast<Function>(driver_symbol(name));
}

}  // namespace fathom
