// Memory of the emulated device: protected from the host outside kernels and copies.

#include <sys/mman.h>

#include <map>
#include <mutex>

#include "cuda.h"
#include "cuda_runtime.h"

namespace {

constexpr std::size_t kDeviceBytes = std::size_t{4} << 30;

// The driver's addresses are integers.
void* pointer_to(CUdeviceptr address) {
  return reinterpret_cast<void*>(address);  // NOLINT(performance-no-int-to-ptr)
}

// Global as the device is: all streams of the process share it.
struct DeviceMemory {
  std::mutex mutex;
  std::map<CUdeviceptr, std::size_t> mapped;  // bytes by address
  std::map<CUmemGenericAllocationHandle, std::size_t> created;
  CUmemGenericAllocationHandle next_handle = 1;
  std::size_t created_bytes = 0;
  int num_users = 0;

  void protect(int protection) {
    for (const auto& [address, bytes] : mapped) {
      mprotect(pointer_to(address), bytes, protection);
    }
  }
};

DeviceMemory& device_memory() {
  static DeviceMemory memory;
  return memory;
}

}  // namespace

namespace fathom::emulator {

MemoryAccess::MemoryAccess() {
  DeviceMemory& memory = device_memory();
  const std::lock_guard lock(memory.mutex);
  if (memory.num_users++ == 0) {
    memory.protect(PROT_READ | PROT_WRITE);
  }
}

MemoryAccess::~MemoryAccess() {
  DeviceMemory& memory = device_memory();
  const std::lock_guard lock(memory.mutex);
  if (--memory.num_users == 0) {
    memory.protect(PROT_NONE);
  }
}

}  // namespace fathom::emulator

CUresult cuMemAddressReserve(CUdeviceptr* address, std::size_t bytes, std::size_t /*alignment*/,
                             CUdeviceptr /*wanted*/, unsigned long long /*flags*/) {
  void* found = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  // Large pages: the whole memory changes its protection with every copy.
  madvise(found, bytes, MADV_HUGEPAGE);
  *address = reinterpret_cast<CUdeviceptr>(found);
  return found == MAP_FAILED ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
}

CUresult cuMemAddressFree(CUdeviceptr address, std::size_t bytes) {
  munmap(pointer_to(address), bytes);
  return CUDA_SUCCESS;
}

CUresult cuMemCreate(CUmemGenericAllocationHandle* handle, std::size_t bytes,
                     const CUmemAllocationProp* /*properties*/, unsigned long long /*flags*/) {
  DeviceMemory& memory = device_memory();
  const std::lock_guard lock(memory.mutex);
  if (memory.created_bytes + bytes > kDeviceBytes) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  memory.created_bytes += bytes;
  *handle = memory.next_handle++;
  memory.created.emplace(*handle, bytes);
  return CUDA_SUCCESS;
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
  DeviceMemory& memory = device_memory();
  const std::lock_guard lock(memory.mutex);
  memory.created_bytes -= memory.created.at(handle);
  memory.created.erase(handle);
  return CUDA_SUCCESS;
}

CUresult cuMemMap(CUdeviceptr address, std::size_t bytes, std::size_t /*offset*/,
                  CUmemGenericAllocationHandle /*handle*/, unsigned long long /*flags*/) {
  DeviceMemory& memory = device_memory();
  const std::lock_guard lock(memory.mutex);
  memory.mapped.emplace(address, bytes);
  return CUDA_SUCCESS;
}

CUresult cuMemUnmap(CUdeviceptr address, std::size_t bytes) {
  DeviceMemory& memory = device_memory();
  const std::lock_guard lock(memory.mutex);
  memory.mapped.erase(memory.mapped.lower_bound(address),
                      memory.mapped.lower_bound(address + bytes));
  return CUDA_SUCCESS;
}

CUresult cuMemSetAccess(CUdeviceptr address, std::size_t bytes, const CUmemAccessDesc* /*access*/,
                        std::size_t /*count*/) {
  DeviceMemory& memory = device_memory();
  const std::lock_guard lock(memory.mutex);
  // Every bit set: NaN in every floating-point type, so that a read of undefined memory shows.
  void* start = pointer_to(address);
  mprotect(start, bytes, PROT_READ | PROT_WRITE);
  std::memset(start, 0xff, bytes);
  if (memory.num_users == 0) {
    mprotect(start, bytes, PROT_NONE);
  }
  return CUDA_SUCCESS;
}

cudaError_t cudaMemGetInfo(std::size_t* free_bytes, std::size_t* total_bytes) {
  DeviceMemory& memory = device_memory();
  const std::lock_guard lock(memory.mutex);
  *total_bytes = kDeviceBytes;
  *free_bytes = kDeviceBytes - memory.created_bytes;
  return cudaSuccess;
}
