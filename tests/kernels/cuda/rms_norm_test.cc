#include "kernels/rms_norm.h"

#include "tests/kernels/cuda/devices.h"

namespace fathom::kernels {
namespace {

constexpr float kEpsilon = 1e-3F;  // large, so that forgetting it shows

struct Case {
  std::int64_t num_tokens;
  std::int64_t hidden;
  std::int64_t extra;  // further columns of x, y, dy and dx
};

// Of every way to lay out a row over threads, whole and not; more than one part of the gain's rows.
const std::vector<Case> kCases{{0, 16, 0},    {1, 1, 0},    {3, 15, 0},   {5, 37, 2},
                               {3, 512, 64},  {9, 520, 0},  {2, 1536, 0}, {2, 1540, 0},
                               {2, 2048, 8},  {2, 4104, 0}, {1, 7168, 0}, {1, 8192, 8},
                               {1, 16392, 0}, {1, 701, 3},  {400, 24, 0}};

}  // namespace

TEST_CASE("RMSNorm on CUDA is that of the CPU") {
  Devices devices;
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  for (const Case& shape : kCases) {
    INFO(shape.num_tokens << " x " << shape.hidden << " + " << shape.extra);
    const Shape wide{shape.num_tokens, shape.hidden + shape.extra};
    const auto random = [&](const Shape& of, const char* name) {
      return devices.rounded(random_tensor(of, name, devices.cpu), dtype);
    };
    const Tensor x = random(wide, "x");
    const Tensor dy = random(wide, "dy");
    const Tensor gain = random(Shape{shape.hidden}, "gain");
    const Tensor nines = filled(wide, 9.0F, devices.cpu);
    Tensor want_y = filled(wide, 9.0F, devices.cpu);
    Tensor want_dx = filled(wide, 9.0F, devices.cpu);
    Tensor inv_rms = Tensor::empty(Shape{shape.num_tokens}, DType::kFloat32, devices.cpu);
    rms_norm_forward(x, gain, kEpsilon, want_y, inv_rms, devices.cpu);
    rms_norm_backward_input(dy, x, gain, inv_rms, want_dx, devices.cpu);
    Tensor want_gain = random_tensor(Shape{shape.hidden}, "before", devices.cpu);
    Tensor found_gain = devices.to_cuda(want_gain);
    GradientSum want_sum = float_sum(want_gain);
    rms_norm_backward_gain(dy, x, inv_rms, want_sum, devices.cpu);

    const Tensor x_there = devices.to_cuda(x, dtype);
    const Tensor dy_there = devices.to_cuda(dy, dtype);
    const Tensor gain_there = devices.to_cuda(gain, dtype);
    Tensor y = devices.to_cuda(nines, dtype);
    Tensor dx = devices.to_cuda(nines, dtype);
    Tensor inv_rms_there = devices.empty(inv_rms.shape(), DType::kFloat32);
    rms_norm_forward(x_there, gain_there, kEpsilon, y, inv_rms_there, devices.cuda);
    rms_norm_backward_input(dy_there, x_there, gain_there, inv_rms_there, dx, devices.cuda);
    GradientSum found_sum = float_sum(found_gain);
    rms_norm_backward_gain(dy_there, x_there, inv_rms_there, found_sum, devices.cuda);
    CHECK(largest_error(y, want_y, devices) < tolerance(dtype));
    CHECK(largest_error(inv_rms_there, inv_rms, devices) < tolerance(DType::kFloat32));
    CHECK(largest_error(dx, want_dx, devices) < tolerance(dtype));
    CHECK(largest_error(found_gain, want_gain, devices) < 2e-5);  // float32 sums of up to 400 terms

    Tensor in_place = devices.to_cuda(x, dtype);
    rms_norm_forward(in_place, gain_there, kEpsilon, in_place, inv_rms_there, devices.cuda);
    Tensor dx_in_place = devices.to_cuda(dy, dtype);
    rms_norm_backward_input(dx_in_place, x_there, gain_there, inv_rms_there, dx_in_place,
                            devices.cuda);
    const auto check_same = [&](const Tensor& found, const Tensor& want, const Tensor& before) {
      const std::vector<float> values = vector_of(devices.to_cpu(found));
      const std::vector<float> wanted = vector_of(devices.to_cpu(want));
      const std::vector<float> untouched = vector_of(before);
      for (std::size_t i = 0; i < values.size(); ++i) {
        const bool is_used = static_cast<std::int64_t>(i) % wide[1] < shape.hidden;
        REQUIRE(values[i] == (is_used ? wanted[i] : untouched[i]));
      }
    };
    check_same(in_place, y, x);
    check_same(dx_in_place, dx, dy);
  }
}

TEST_CASE("A residual connection with its norm on CUDA is that of the CPU") {
  Devices devices;
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  for (const Case& shape : kCases) {
    INFO(shape.num_tokens << " x " << shape.hidden << " + " << shape.extra);
    const Shape wide{shape.num_tokens, shape.hidden + shape.extra};
    const auto random = [&](const Shape& of, const char* name) {
      return devices.rounded(random_tensor(of, name, devices.cpu), dtype);
    };
    const Tensor x = random(wide, "x");
    const Tensor branch = random(wide, "branch");
    const Tensor dy = random(wide, "dy");
    const Tensor dh = random(wide, "dh");
    const Tensor gain = random(Shape{shape.hidden}, "gain");
    const Tensor nines = filled(wide, 9.0F, devices.cpu);
    // The norm is that of the rounded sum.
    Tensor sum = tensor_of(vector_of(branch), wide, devices.cpu);
    Tensor want_y = filled(wide, 9.0F, devices.cpu);
    Tensor want_dx = filled(wide, 9.0F, devices.cpu);
    Tensor inv_rms = Tensor::empty(Shape{shape.num_tokens}, DType::kFloat32, devices.cpu);
    add_rms_norm_forward(x, sum, gain, kEpsilon, want_y, inv_rms, devices.cpu);
    const Tensor want_h = devices.rounded(sum, dtype);
    rms_norm_forward(want_h, gain, kEpsilon, want_y, inv_rms, devices.cpu);
    add_rms_norm_backward_input(dy, want_h, gain, inv_rms, dh, want_dx, devices.cpu);

    const Tensor gain_there = devices.to_cuda(gain, dtype);
    const Tensor dh_there = devices.to_cuda(dh, dtype);
    Tensor h = devices.to_cuda(branch, dtype);
    Tensor y = devices.to_cuda(nines, dtype);
    Tensor dx = devices.to_cuda(nines, dtype);
    Tensor inv_rms_there = devices.empty(inv_rms.shape(), DType::kFloat32);
    add_rms_norm_forward(devices.to_cuda(x, dtype), h, gain_there, kEpsilon, y, inv_rms_there,
                         devices.cuda);
    add_rms_norm_backward_input(devices.to_cuda(dy, dtype), h, gain_there, inv_rms_there, dh_there,
                                dx, devices.cuda);
    CHECK(bytes_of(devices.to_cpu(h)) == bytes_of(want_h));
    CHECK(largest_error(y, want_y, devices) < tolerance(dtype));
    CHECK(largest_error(inv_rms_there, inv_rms, devices) < tolerance(DType::kFloat32));
    CHECK(largest_error(dx, want_dx, devices) < tolerance(dtype));
  }
}

TEST_CASE("A residual connection with its norm on CUDA, of misaligned parts of tensors") {
  Devices devices;
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  const Shape shape{2, 16};
  const Tensor all = devices.rounded(random_tensor(Shape{33}, "h", devices.cpu), dtype);
  const Tensor part = all.view_elements(1, shape);
  const Tensor gain = devices.rounded(random_tensor(Shape{16}, "gain", devices.cpu), dtype);
  const Tensor there = devices.to_cuda(all, dtype);
  const Tensor gain_there = devices.to_cuda(gain, dtype);
  const Tensor zeros = Tensor::zeros(shape, dtype, devices.cuda);
  Tensor h = there.view_elements(1, shape);
  Tensor y = devices.empty(shape, dtype);
  Tensor inv_rms = devices.empty(Shape{2}, DType::kFloat32);
  add_rms_norm_forward(zeros, h, gain_there, kEpsilon, y, inv_rms, devices.cuda);
  Tensor dx = devices.empty(shape, dtype);
  const Tensor& dh = h;
  add_rms_norm_backward_input(zeros, zeros, gain_there, inv_rms, dh, dx, devices.cuda);
  Tensor want_y = Tensor::empty(shape, DType::kFloat32, devices.cpu);
  Tensor want_inv_rms = Tensor::empty(Shape{2}, DType::kFloat32, devices.cpu);
  rms_norm_forward(part, gain, kEpsilon, want_y, want_inv_rms, devices.cpu);
  CHECK(vector_of(devices.to_cpu(there)) == vector_of(all));
  CHECK(largest_error(y, want_y, devices) < tolerance(dtype));
  CHECK(bytes_of(devices.to_cpu(dx)) == bytes_of(devices.to_cpu(h)));
}

TEST_CASE("RMSNorm of a misaligned part of a tensor on CUDA") {
  Devices devices;
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  const Tensor x = devices.rounded(random_tensor(Shape{33}, "x", devices.cpu), dtype);
  const Tensor gain = devices.rounded(random_tensor(Shape{16}, "gain", devices.cpu), dtype);
  Tensor want = Tensor::empty(Shape{2, 16}, DType::kFloat32, devices.cpu);
  Tensor inv_rms = Tensor::empty(Shape{2}, DType::kFloat32, devices.cpu);
  rms_norm_forward(x.view_elements(1, Shape{2, 16}), gain, kEpsilon, want, inv_rms, devices.cpu);
  Tensor found = devices.empty(want.shape(), dtype);
  Tensor inv_rms_there = devices.empty(Shape{2}, DType::kFloat32);
  rms_norm_forward(devices.to_cuda(x, dtype).view_elements(1, Shape{2, 16}),
                   devices.to_cuda(gain, dtype), kEpsilon, found, inv_rms_there, devices.cuda);
  CHECK(largest_error(found, want, devices) < tolerance(dtype));
}

}  // namespace fathom::kernels
