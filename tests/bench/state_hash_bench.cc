// What hashing the state of a run costs an element, on one thread.
#include <cstdint>
#include <cstdio>
#include <string>

#include "tests/bench/timing.h"
#include "trainer/state_hash.h"

int main() {
  using namespace fathom;
  Stream stream;
  const Shape shape{1024, 1024};
  parallel::StateSlice slice;
  slice.key = "model.norm.weight";
  slice.global_shape = shape;
  slice.num_rows = shape[0];
  slice.num_columns = shape[1];
  std::uint64_t sum = 0;  // printed, so that nothing is left out
  for (const DType dtype : {DType::kBFloat16, DType::kFloat32, DType::kInt64}) {
    const Tensor tensor = Tensor::zeros(shape, dtype, stream);
    const double seconds = bench::best_seconds(
        true, 0.5, [&] { sum += trainer::hash_elements(slice, tensor, stream); });
    std::printf("%s: %.2f ns an element\n", std::string(to_string(dtype)).c_str(),
                1e9 * seconds / static_cast<double>(shape.numel()));
  }
  std::printf("sum %llx\n", static_cast<unsigned long long>(sum));
}
