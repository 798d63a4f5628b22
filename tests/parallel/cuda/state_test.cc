// State of a CUDA device as visitors see it that work on host memory, or on float32.
#include <vector>

#include "core/host_copy.h"
#include "kernels/elementwise.h"
#include "parallel/float32_state.h"
#include "parallel/host_state.h"
#include "tests/support/catch.h"

namespace fathom::parallel {
namespace {

// Reads, or sets the tensors "set" alone.
class Visitor final : public StateVisitor {
 public:
  explicit Visitor(Access access) : access_(access) {}
  Access access() const noexcept override { return access_; }
  void tensor(const StateSlice& slice, Tensor& local) override {
    FATHOM_CHECK(local.device().type == DeviceType::kCpu, "shown on ", local.device());
    seen_ = {local.values<float>().begin(), local.values<float>().end()};
    if (access_ == Access::kWrite && slice.key == "set") {
      for (float& value : local.mutable_values<float>()) {
        value += 0.5F;
      }
    }
  }
  void integer(const std::string&, std::int64_t&) override {}
  const std::vector<float>& seen() const { return seen_; }

 private:
  Access access_;
  std::vector<float> seen_;
};

StateSlice slice(const std::string& key) { return {key, Shape{3}, 0, 1, 0, 3}; }

Tensor filled(float value, DType dtype, Stream& stream) {
  Tensor tensor = Tensor::empty(Shape{3}, dtype, stream);
  kernels::fill(tensor, value, stream);
  return tensor;
}

std::vector<float> values_of(const Tensor& tensor, Stream& stream) {
  Tensor wide = Tensor::empty(tensor.shape(), DType::kFloat32, stream);
  kernels::convert(tensor, wide, stream);
  return to_host<float>(wide, stream);
}

}  // namespace

TEST_CASE("A visitor of host memory writes what it sets on the device, and nothing else") {
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  Stream stream(Device{DeviceType::kCuda, 0});
  Tensor one = filled(2.0F, dtype, stream);
  Tensor other = filled(5.0F, dtype, stream);
  Visitor writer(StateVisitor::Access::kWrite);
  HostState host(writer, stream);
  Float32State state(host, stream);
  state.tensor(slice("set"), one);
  state.tensor(slice("left alone"), other);
  CHECK(values_of(one, stream) == std::vector<float>(3, 2.5F));
  CHECK(values_of(other, stream) == std::vector<float>(3, 5.0F));
  Visitor reader(StateVisitor::Access::kRead);
  HostState host_of_reader(reader, stream);
  Float32State(host_of_reader, stream).tensor(slice("set"), one);
  CHECK(reader.seen() == std::vector<float>(3, 2.5F));
  CHECK(values_of(one, stream) == std::vector<float>(3, 2.5F));
}

}  // namespace fathom::parallel
