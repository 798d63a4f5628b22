// Copies into shared memory, barriers there, tensor loads and products of warpgroups: see
// include/emulated_sm90.h.

#include <bit>
#include <functional>

#include "cuda_bf16.h"
#include "emulated_sm90.h"

namespace fathom::emulator {

namespace {

// cuTensorMapEncodeTiled's parameters, in the bytes of a CUtensorMap.
struct TensorMap {
  const std::byte* data = nullptr;
  std::uint64_t sizes[3] = {1, 1, 1};
  std::uint64_t strides[3] = {};  // bytes
  unsigned box[3] = {1, 1, 1};
  unsigned element_bytes = 0;
};
static_assert(sizeof(TensorMap) <= sizeof(CUtensorMap));

unsigned element_bytes(CUtensorMapDataType type) {
  switch (type) {
    case CU_TENSOR_MAP_DATA_TYPE_BFLOAT16:
      return 2;
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT32:
      return 4;
  }
  return 0;
}

}  // namespace

namespace sm90 {

namespace {

constexpr std::uint32_t kSharedBytes = 227 << 10;
constexpr std::size_t kCopyBytes = 16;

std::byte* shared_memory(std::uint32_t address) { return current->dynamic_shared + address; }

// "Swizzle<3, 4, 3>": bits 4 to 6 of an address become their exclusive or with bits 7 to 9.
std::uint32_t swizzled(std::uint32_t address) { return address ^ (address >> 3 & 0x70U); }

// The opaque 64 bits of an mbarrier object.
struct BarrierBits {
  std::uint64_t phase : 1;
  std::uint64_t expected_arrivals : 20;
  std::uint64_t pending_arrivals : 20;
  std::int64_t pending_bytes : 23;
};
static_assert(sizeof(BarrierBits) == sizeof(std::uint64_t));

void update(std::uint64_t* barrier, int arrivals, std::int64_t bytes) {
  auto bits = std::bit_cast<BarrierBits>(*barrier);
  if (bits.pending_arrivals < static_cast<unsigned>(arrivals)) {
    fail("an mbarrier phase has got more arrivals than its count");
  }
  bits.pending_arrivals -= static_cast<unsigned>(arrivals);
  bits.pending_bytes += bytes;
  if (bits.pending_arrivals == 0 && bits.pending_bytes == 0) {
    bits.phase ^= 1U;
    bits.pending_arrivals = bits.expected_arrivals;
  }
  *barrier = std::bit_cast<std::uint64_t>(bits);
  progress();
}

constexpr unsigned kDepth = 16;  // of an instruction
constexpr float kZeros[kDepth] = {};

// An operand as its descriptor says: "Matrix Descriptor Format" and "Canonical Layouts", in bytes
// for elements of two bytes, T = 8:
//   K-major    ((8, m), (T, 2k)) : ((8 T, SBO), (1, T))
//   MN-major   ((T, 8, m), (8, k)) : ((1, T, LBO), (8 T, SBO))
class Operand {
 public:
  Operand(std::uint64_t descriptor, bool is_mn_major)
      : start_(field(descriptor, 0)),
        leading_(field(descriptor, 16)),
        stride_(field(descriptor, 32)),
        is_mn_major_(is_mn_major) {
    if (descriptor >> 62 != 1 || (descriptor >> 49 & 7) != 0) {
      fail("wgmma is emulated for the 128-byte swizzle with base offset 0");
    }
  }
  // Elements (index, 0) to (index, kDepth - 1). Returns whether one of them is not 0.
  bool load(unsigned index, float (&to)[kDepth]) const {
    std::uint16_t bits[kDepth];
    for (unsigned depth = 0; depth < kDepth; depth += is_mn_major_ ? 1 : kNeighbours) {
      std::memcpy(bits + depth, shared_memory(swizzled(start_ + offset(index, depth))),
                  sizeof(bits[0]) * (is_mn_major_ ? 1 : kNeighbours));
    }
    std::uint32_t all = 0;
    for (unsigned depth = 0; depth < kDepth; ++depth) {
      to[depth] = std::bit_cast<float>(std::uint32_t{bits[depth]} << 16);
      all |= bits[depth];
    }
    return all != 0;
  }

 private:
  static constexpr unsigned kNeighbours = 8;  // along the depth, where that is the major dimension

  std::uint32_t offset(unsigned index, unsigned depth) const {
    return is_mn_major_
               ? index % 64 * 2 + index / 64 * leading_ + depth % 8 * 128 + depth / 8 * stride_
               : index % 8 * 128 + index / 8 * stride_ + depth * 2;
  }
  static std::uint32_t field(std::uint64_t descriptor, int bit) {
    return static_cast<std::uint32_t>(descriptor >> bit & 0x3fffU) << 4;
  }

  std::uint32_t start_;
  std::uint32_t leading_;
  std::uint32_t stride_;
  bool is_mn_major_;
};

// The products of an instruction are added together before the sum so far, in an order of its own,
// so that it shows in the bits where instructions begin.
float sum_of_products(const float (&a)[kDepth], const float (&b)[kDepth]) {
  float sums[kDepth];
  for (unsigned i = 0; i < kDepth; ++i) {
    sums[i] = a[i] * b[i];
  }
  for (unsigned count = kDepth / 2; count > 0; count /= 2) {
    for (unsigned i = 0; i < count; ++i) {
      sums[i] += sums[i + count];
    }
  }
  return sums[0];
}

// "Register Fragments": of the warpgroup's 64 rows warp w has 16 w to 16 w + 15; lane l has of each
// eight columns 2 (l % 4) and the next, in the rows l / 4 (d0, d1) and l / 4 + 8 (d2, d3).
void multiply(const Product& product) {
  const Operand a(product.a, product.a_is_mn_major);
  const Operand b(product.b, product.b_is_mn_major);
  const unsigned warp = current->thread.x / 32 % 4;
  const auto lane = static_cast<unsigned>(current->lane());
  float rows[2][kDepth];
  a.load(16 * warp + lane / 4, rows[0]);
  a.load(16 * warp + lane / 4 + 8, rows[1]);
  const bool are_finite = sum_of_products(rows[0], kZeros) + sum_of_products(rows[1], kZeros) == 0;
  float* d = product.d;
  for (unsigned columns = 0; columns < static_cast<unsigned>(product.num_columns); columns += 8) {
    float pair[2][kDepth];
    const bool has_first = b.load(columns + 2 * (lane % 4), pair[0]);
    const bool has_second = b.load(columns + 2 * (lane % 4) + 1, pair[1]);
    if (are_finite && !has_first && !has_second) {  // most of what lies outside a small matrix
      d += 4;
      continue;
    }
    for (const auto& row : rows) {
      for (const auto& column : pair) {
        *d++ += sum_of_products(row, column);
      }
    }
  }
}

}  // namespace

std::uint32_t shared_address(const void* pointer) {
  const auto address = static_cast<const std::byte*>(pointer) - current->dynamic_shared;
  if (address < 0 || address >= kSharedBytes) {
    fail("an address that is not in dynamic shared memory");
  }
  return static_cast<std::uint32_t>(address);
}

void begin_copy(const void* from, void* to, bool exists) {
  if (shared_address(to) % kCopyBytes != 0 ||
      (exists && reinterpret_cast<std::uintptr_t>(from) % kCopyBytes != 0)) {
    fail("cp.async between addresses that are not multiples of 16");
  }
  std::memset(to, 0xff, kCopyBytes);
  current->begun_copies.push_back({exists ? from : nullptr, to});
}
void wait_for_copies() {
  for (const ThreadState::Copy& copy : current->begun_copies) {
    if (copy.from != nullptr) {
      std::memcpy(copy.to, copy.from, kCopyBytes);
    } else {
      std::memset(copy.to, 0, kCopyBytes);
    }
  }
  current->begun_copies.clear();
}

void mbarrier_init(std::uint64_t* barrier, unsigned count) {
  *barrier = std::bit_cast<std::uint64_t>(BarrierBits{0, count, count, 0});
  progress();
}
void mbarrier_arrive(std::uint64_t* barrier) { update(barrier, 1, 0); }
void mbarrier_arrive_expect(std::uint64_t* barrier, unsigned bytes) { update(barrier, 1, bytes); }
void mbarrier_wait(const std::uint64_t* barrier, unsigned parity) {
  while (std::bit_cast<BarrierBits>(*barrier).phase == parity) {
    give_way();
  }
  progress();
}

void load_box(const CUtensorMap& map, std::uint64_t* barrier, void* to, int x, int y, int z) {
  TensorMap tensor;
  std::memcpy(static_cast<void*>(&tensor), &map, sizeof(tensor));
  const std::uint32_t start = shared_address(to);
  if (start % 128 != 0) {
    fail("a tensor load to an address that is not a multiple of 128");
  }
  const std::int64_t first[3] = {x, y, z};
  std::uint32_t offset = 0;
  std::uint64_t place[3] = {};
  for (unsigned k = 0; k < tensor.box[2]; ++k) {
    for (unsigned j = 0; j < tensor.box[1]; ++j) {
      for (unsigned i = 0; i < tensor.box[0]; ++i, offset += tensor.element_bytes) {
        const unsigned in_box[3] = {i, j, k};
        const std::byte* from = tensor.data;
        for (int dim = 0; dim < 3 && from != nullptr; ++dim) {
          place[dim] = static_cast<std::uint64_t>(first[dim] + in_box[dim]);  // below 0: huge
          from = place[dim] < tensor.sizes[dim] ? from + place[dim] * tensor.strides[dim] : nullptr;
        }
        std::byte* element = shared_memory(swizzled(start + offset));
        if (from != nullptr) {
          std::memcpy(element, from, tensor.element_bytes);
        } else {
          std::memset(element, 0, tensor.element_bytes);
        }
      }
    }
  }
  update(barrier, 0, -static_cast<std::int64_t>(offset));
}

void issue(const Product& product) {
  current->begun_work.emplace_back([product] { multiply(product); });
}
void wgmma_commit() {
  current->committed_work.push_back(std::move(current->begun_work));
  current->begun_work.clear();
}
void wait_for_products(int num_pending_groups) {
  auto& groups = current->committed_work;
  while (groups.size() > static_cast<std::size_t>(num_pending_groups)) {
    for (const std::function<void()>& work : groups.front()) {
      work();
    }
    groups.pop_front();
  }
  exchange_in_warp(0);  // .sync.aligned: the warp's lanes go on together
}

}  // namespace sm90
}  // namespace fathom::emulator

CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank,
                                void* data, const cuuint64_t* sizes, const cuuint64_t* strides,
                                const cuuint32_t* box, const cuuint32_t* element_strides,
                                CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                                CUtensorMapL2promotion /*promotion*/,
                                CUtensorMapFloatOOBfill fill) {
  fathom::emulator::TensorMap tensor;
  tensor.data = static_cast<const std::byte*>(data);
  tensor.element_bytes = fathom::emulator::element_bytes(type);
  // The requirements of the driver's documentation, and what is emulated: up to three dimensions,
  // the 128-byte swizzle of boxes of 128 bytes a row, zeros outside.
  bool fits = rank >= 1 && rank <= 3 && tensor.element_bytes != 0 &&
              reinterpret_cast<std::uintptr_t>(map) % 64 == 0 &&
              reinterpret_cast<std::uintptr_t>(data) % 16 == 0 &&
              interleave == CU_TENSOR_MAP_INTERLEAVE_NONE &&
              swizzle == CU_TENSOR_MAP_SWIZZLE_128B && fill == CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE;
  for (cuuint32_t dim = 0; dim < rank && fits; ++dim) {
    tensor.sizes[dim] = sizes[dim];
    tensor.strides[dim] = dim == 0 ? tensor.element_bytes : strides[dim - 1];
    tensor.box[dim] = box[dim];
    fits = sizes[dim] > 0 && sizes[dim] <= (1ULL << 32) && box[dim] > 0 && box[dim] <= 256 &&
           element_strides[dim] == 1 &&
           (dim == 0 || (tensor.strides[dim] % 16 == 0 && tensor.strides[dim] < (1ULL << 40)));
  }
  if (!fits || box[0] * tensor.element_bytes != 128) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  std::memcpy(map, &tensor, sizeof(tensor));
  return CUDA_SUCCESS;
}
