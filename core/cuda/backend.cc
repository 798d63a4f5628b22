#include <cuda_runtime.h>

#include <cstring>

#include "core/cuda/address_range.h"
#include "core/cuda/check.h"
#include "core/cuda/queue.h"
#include "core/device_backend.h"
#include "core/error.h"

namespace fathom {
namespace {

class CudaBackend final : public DeviceBackend {
 public:
  int num_devices() const override {
    int count = 0;
    // No driver and no card is an answer, not an error.
    return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
  }
  std::array<std::int64_t, 2> unique_id(int index) const override {
    check_index(index);
    cudaDeviceProp properties;
    check_cuda(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties");
    std::array<std::int64_t, 2> id{};
    static_assert(sizeof(id) == sizeof(properties.uuid));
    std::memcpy(id.data(), &properties.uuid, sizeof(id));
    return id;
  }
  double peak_flops(int index) const override {
    const auto attribute = [index](cudaDeviceAttr which) {
      int value = 0;
      check_cuda(cudaDeviceGetAttribute(&value, which, index), "cudaDeviceGetAttribute");
      return value;
    };
    // H100 SXM, H200: 989.4e12 from 132 multiprocessors at compute capability 9.0.
    if (attribute(cudaDevAttrComputeCapabilityMajor) != 9) {
      return 0.0;
    }
    constexpr double kPerMultiprocessor = 989.4e12 / 132;
    return kPerMultiprocessor * attribute(cudaDevAttrMultiProcessorCount);
  }
  std::unique_ptr<AddressRange> make_address_range(int index) const override {
    check_index(index);
    return make_cuda_address_range(index);
  }
  std::unique_ptr<DeviceQueue> make_queue(int index) const override {
    check_index(index);
    return std::make_unique<CudaQueue>(index);
  }

 private:
  void check_index(int index) const {
    const int count = num_devices();
    if (index < 0 || index >= count) {
      throw DeviceError(concat("cuda:", index, " was asked for, the driver shows ", count,
                               " CUDA devices (CUDA_VISIBLE_DEVICES may hide some)"));
    }
  }
};

const CudaBackend kBackend;
const DeviceBackendRegistration kRegistration(DeviceType::kCuda, kBackend);

}  // namespace
}  // namespace fathom
