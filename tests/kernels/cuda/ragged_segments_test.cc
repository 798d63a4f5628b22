#include "kernels/cuda/ragged_segments.h"

#include "tests/kernels/cuda/devices.h"

namespace fathom::kernels::cuda {

TEST_CASE("Segments become offsets and lengths, filled up with empty ones") {
  Devices devices;
  const Tensor segments =
      devices.to_cuda(tensor_of<std::int32_t>({0, 3, 3, 10}, Shape{4}, devices.cpu));
  const RaggedSegments ragged = ragged_segments(segments, {1, 2, 1000000000, 5}, 4, devices.cuda);
  CHECK(to_host<std::int64_t>(ragged.offsets, devices.cuda) ==
        std::vector<std::int64_t>{0, 3,          3,          10,          10,           //
                                  0, 6,          6,          20,          20,           //
                                  0, 3000000000, 3000000000, 10000000000, 10000000000,  //
                                  0, 15,         15,         50,          50});
  CHECK(to_host<std::int32_t>(ragged.lengths, devices.cuda) ==
        std::vector<std::int32_t>{3, 0, 7, 0});
}

}  // namespace fathom::kernels::cuda
