#include "kernels/rms_norm.h"

#include <algorithm>
#include <functional>
#include <limits>

#include "tests/kernels/cuda/devices.h"

namespace fathom::kernels {
namespace {

constexpr float kEpsilon = 1e-3F;  // large, so that forgetting it shows

struct Case {
  std::int64_t num_tokens;
  std::int64_t hidden;
  std::int64_t extra;  // further columns of x, y, dy and dx
};

// Of every way to lay out a row over threads, whole and not; a row a block, and more of them.
const std::vector<Case> kCases{
    {0, 16, 0},   {1, 1, 0},    {3, 15, 0},    {5, 37, 2},    {60, 64, 0},   {3, 512, 64},
    {29, 520, 0}, {2, 1536, 0}, {2, 1540, 0},  {31, 2048, 8}, {13, 4096, 0}, {8, 4104, 0},
    {7, 7168, 0}, {3, 8192, 8}, {5, 16392, 0}, {17, 701, 3},  {1200, 24, 0}};

// before + the sum over the tokens of dy * x * inv_rms, in float64.
std::vector<double> gain_gradient(const Tensor& before, const Tensor& dy, const Tensor& x,
                                  const Tensor& inv_rms) {
  std::vector<double> sums = doubles(before);
  for (std::int64_t token = 0; token < x.size(0); ++token) {
    const float* gradient = dy.data<float>() + token * dy.size(1);
    const float* values = x.data<float>() + token * x.size(1);
    for (std::size_t c = 0; c < sums.size(); ++c) {
      sums[c] += double{gradient[c]} * values[c] * inv_rms.data<float>()[token];
    }
  }
  return sums;
}

// The leading columns are those of `want`, the others those of `before`.
void check_same(const Tensor& found, const Tensor& want, const Tensor& before,
                std::int64_t hidden) {
  const std::vector<float> values = vector_of(found);
  const std::vector<float> wanted = vector_of(want);
  const std::vector<float> untouched = vector_of(before);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const bool is_used = static_cast<std::int64_t>(i) % found.size(1) < hidden;
    REQUIRE(values[i] == (is_used ? wanted[i] : untouched[i]));
  }
}

// `dh` is null, or that of the norm with a residual connection.
void run_backward(const Tensor& dy, const RmsNormInputs& norm, const Tensor* dh, Tensor& dx,
                  const Tensor& gain_grad, Stream& stream) {
  GradientSum sum = float_sum(gain_grad);
  if (dh != nullptr) {
    add_rms_norm_backward(dy, norm, *dh, dx, sum, stream);
  } else {
    rms_norm_backward(dy, norm, dx, sum, stream);
  }
}

// Of inputs on the CPU that `dtype` allows: the GPU's gradients against the CPU's and float64, and
// in place of dy.
void check_backward(const Tensor& dy, const RmsNormInputs& norm, const Tensor* dh, DType dtype,
                    Devices& devices) {
  const std::int64_t hidden = norm.gain.size(0);
  const Tensor nines = filled(dy.shape(), 9.0F, devices.cpu);
  Tensor before = random_tensor(Shape{hidden}, "before", devices.cpu);
  const Tensor gain_grad = devices.to_cuda(before);
  const Tensor gain_grad_in_place = devices.to_cuda(before);
  const std::vector<double> want_gain = gain_gradient(before, dy, norm.x, norm.inv_rms);
  Tensor want_dx = tensor_of(vector_of(nines), dy.shape(), devices.cpu);
  run_backward(dy, norm, dh, want_dx, before, devices.cpu);

  const Tensor x = devices.to_cuda(norm.x, dtype);
  const Tensor gain = devices.to_cuda(norm.gain, dtype);
  const Tensor inv_rms = devices.to_cuda(norm.inv_rms);
  const RmsNormInputs there{x, gain, inv_rms};
  const Tensor added = dh != nullptr ? devices.to_cuda(*dh, dtype) : Tensor();
  const Tensor* const dh_there = dh != nullptr ? &added : nullptr;
  Tensor dx = devices.to_cuda(nines, dtype);
  run_backward(devices.to_cuda(dy, dtype), there, dh_there, dx, gain_grad, devices.cuda);
  CHECK(largest_error(dx, want_dx, devices) < tolerance(dtype));
  CHECK(largest_error(devices.to_cpu(gain_grad), want_gain) < 1e-5);  // float32 sums

  Tensor in_place = devices.to_cuda(dy, dtype);
  run_backward(in_place, there, dh_there, in_place, gain_grad_in_place, devices.cuda);
  check_same(devices.to_cpu(in_place), devices.to_cpu(dx), dy, hidden);
  CHECK(bytes_of(devices.to_cpu(gain_grad_in_place)) == bytes_of(devices.to_cpu(gain_grad)));
}

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
    const Tensor gain = random(Shape{shape.hidden}, "gain");
    const Tensor nines = filled(wide, 9.0F, devices.cpu);
    Tensor want_y = filled(wide, 9.0F, devices.cpu);
    Tensor inv_rms = Tensor::empty(Shape{shape.num_tokens}, DType::kFloat32, devices.cpu);
    rms_norm_forward(x, gain, kEpsilon, want_y, inv_rms, devices.cpu);

    const Tensor gain_there = devices.to_cuda(gain, dtype);
    Tensor y = devices.to_cuda(nines, dtype);
    Tensor inv_rms_there = devices.empty(inv_rms.shape(), DType::kFloat32);
    rms_norm_forward(devices.to_cuda(x, dtype), gain_there, kEpsilon, y, inv_rms_there,
                     devices.cuda);
    CHECK(largest_error(y, want_y, devices) < tolerance(dtype));
    CHECK(largest_error(inv_rms_there, inv_rms, devices) < tolerance(DType::kFloat32));
    Tensor in_place = devices.to_cuda(x, dtype);
    rms_norm_forward(in_place, gain_there, kEpsilon, in_place, inv_rms_there, devices.cuda);
    check_same(devices.to_cpu(in_place), devices.to_cpu(y), x, shape.hidden);

    check_backward(random(wide, "dy"), {x, gain, inv_rms}, nullptr, dtype, devices);
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
    const Tensor dh = random(wide, "dh");
    const Tensor gain = random(Shape{shape.hidden}, "gain");
    const Tensor nines = filled(wide, 9.0F, devices.cpu);
    // The norm is that of the rounded sum.
    Tensor sum = tensor_of(vector_of(branch), wide, devices.cpu);
    Tensor want_y = filled(wide, 9.0F, devices.cpu);
    Tensor inv_rms = Tensor::empty(Shape{shape.num_tokens}, DType::kFloat32, devices.cpu);
    add_rms_norm_forward(x, sum, gain, kEpsilon, want_y, inv_rms, devices.cpu);
    const Tensor want_h = devices.rounded(sum, dtype);
    rms_norm_forward(want_h, gain, kEpsilon, want_y, inv_rms, devices.cpu);

    Tensor h = devices.to_cuda(branch, dtype);
    Tensor y = devices.to_cuda(nines, dtype);
    Tensor inv_rms_there = devices.empty(inv_rms.shape(), DType::kFloat32);
    add_rms_norm_forward(devices.to_cuda(x, dtype), h, devices.to_cuda(gain, dtype), kEpsilon, y,
                         inv_rms_there, devices.cuda);
    CHECK(bytes_of(devices.to_cpu(h)) == bytes_of(want_h));
    CHECK(largest_error(y, want_y, devices) < tolerance(dtype));
    CHECK(largest_error(inv_rms_there, inv_rms, devices) < tolerance(DType::kFloat32));

    check_backward(random(wide, "dy"), {want_h, gain, inv_rms}, &dh, dtype, devices);
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
  GradientSum gain_grad = float_sum(devices.to_cuda(filled(Shape{16}, 2.0F, devices.cpu)));
  add_rms_norm_backward(zeros, {zeros, gain_there, inv_rms}, dh, dx, gain_grad, devices.cuda);
  Tensor want_y = Tensor::empty(shape, DType::kFloat32, devices.cpu);
  Tensor want_inv_rms = Tensor::empty(Shape{2}, DType::kFloat32, devices.cpu);
  rms_norm_forward(part, gain, kEpsilon, want_y, want_inv_rms, devices.cpu);
  CHECK(vector_of(devices.to_cpu(there)) == vector_of(all));
  CHECK(largest_error(y, want_y, devices) < tolerance(dtype));
  CHECK(bytes_of(devices.to_cpu(dx)) == bytes_of(devices.to_cpu(h)));
  CHECK(to_host<float>(gain_grad.sum, devices.cuda) == std::vector<float>(16, 2.0F));
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

namespace {

// All outputs of the norm on the GPU; `place` brings its inputs there.
template <class Place>
std::vector<std::vector<float>> norm_outputs(const Tensor& x, const Tensor& dy, const Tensor& gain,
                                             const Place& place, Devices& devices) {
  const Shape rows{x.size(0), gain.size(0)};
  const Tensor x_there = place(x);
  const Tensor dy_there = place(dy);
  const Tensor gain_there = place(gain);
  Tensor inv_rms = devices.empty(Shape{x.size(0)}, DType::kFloat32);
  Tensor y = place(filled(rows, 0.0F, devices.cpu));
  Tensor dx = place(filled(rows, 0.0F, devices.cpu));
  std::vector<std::vector<float>> outputs;
  const auto keep = [&](const Tensor& tensor) {
    outputs.push_back(vector_of(devices.to_cpu(tensor)));
  };
  rms_norm_forward(x_there, gain_there, kEpsilon, y, inv_rms, devices.cuda);
  GradientSum gain_grad = float_sum(Tensor::zeros(gain.shape(), DType::kFloat32, devices.cuda));
  rms_norm_backward(dy_there, {x_there, gain_there, inv_rms}, dx, gain_grad, devices.cuda);
  keep(y);
  keep(inv_rms);
  keep(dx);
  Tensor h = place(dy);
  add_rms_norm_forward(x_there, h, gain_there, kEpsilon, y, inv_rms, devices.cuda);
  add_rms_norm_backward(dy_there, {h, gain_there, inv_rms}, x_there, dx, gain_grad, devices.cuda);
  keep(h);
  keep(y);
  keep(inv_rms);
  keep(dx);
  // What a recomputation makes again of the sum that was kept.
  rms_norm_forward(h, gain_there, kEpsilon, y, inv_rms, devices.cuda);
  CHECK(vector_of(devices.to_cpu(y)) == outputs[4]);
  CHECK(vector_of(devices.to_cpu(inv_rms)) == outputs[5]);
  return outputs;
}

}  // namespace

TEST_CASE("A row of RMSNorm on CUDA has the same bits among others and at any address") {
  Devices devices;
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  const std::int64_t hidden = GENERATE(7, 24, 512, 520, 1536, 4096, 8192, 8200);
  constexpr std::int64_t kRows = 6;
  INFO("rows of " << hidden);
  const auto random = [&](const Shape& shape, const char* name) {
    return devices.rounded(random_tensor(shape, name, devices.cpu), dtype);
  };
  const Tensor x = random(Shape{kRows, hidden}, "x");
  const Tensor dy = random(Shape{kRows, hidden}, "dy");
  const Tensor gain = random(Shape{hidden}, "gain");
  const auto aligned = [&](const Tensor& tensor) { return devices.to_cuda(tensor, dtype); };
  const auto misaligned = [&](const Tensor& tensor) {
    return devices.to_cuda_misaligned(tensor, dtype);
  };
  const auto together = norm_outputs(x, dy, gain, aligned, devices);
  CHECK(norm_outputs(x, dy, gain, misaligned, devices) == together);
  const auto alone = norm_outputs(x.narrow(4, 5), dy.narrow(4, 5), gain, aligned, devices);
  for (std::size_t i = 0; i < alone.size(); ++i) {
    const auto first = together[i].begin() + 4 * static_cast<std::ptrdiff_t>(alone[i].size());
    CHECK(alone[i] ==
          std::vector<float>(first, first + static_cast<std::ptrdiff_t>(alone[i].size())));
  }
}

namespace {

constexpr int kFractionBits = 40;

struct GainInputs {
  Tensor dy, x, gain, inv_rms;
  GainInputs rows(std::int64_t first, std::int64_t last) const {
    return {dy.narrow(first, last), x.narrow(first, last), gain, inv_rms.narrow(first, last)};
  }
};

// What the calls together make of an empty sum.
std::vector<std::int64_t> gain_sum(const std::vector<GainInputs>& calls, std::int64_t unit_rows,
                                   Stream& stream) {
  const std::int64_t hidden = calls[0].x.size(1);
  GradientSum sum =
      integer_sum({hidden}, kFractionBits, contribution_limit(kFractionBits, 1000), stream);
  fill(sum.sum, -7.0F, stream);
  sum.is_empty = true;
  sum.unit_rows = unit_rows;
  for (const GainInputs& call : calls) {
    Tensor dx = Tensor::empty(call.x.shape(), call.x.dtype(), stream);
    rms_norm_backward(call.dy, {call.x, call.gain, call.inv_rms}, dx, sum, stream);
    CHECK_FALSE(sum.is_empty);
  }
  CHECK(to_host<std::int64_t>(sum.num_refused, stream)[0] == 0);
  return to_host<std::int64_t>(sum.sum, stream);
}

}  // namespace

TEST_CASE("The gain's gradient in integers on CUDA does not show how units are cut into calls") {
  Devices devices;
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  // A range of rows or less, and more than one; of each layout of a row.
  const auto [unit, hidden] =
      GENERATE(std::pair{3, 5}, std::pair{40, 5}, std::pair{3, 24}, std::pair{40, 24},
               std::pair{70, 512}, std::pair{16, 520}, std::pair{27, 1544}, std::pair{20, 2056},
               std::pair{3, 4104}, std::pair{19, 4104}, std::pair{9, 8200});
  constexpr std::int64_t kUnits = 3;
  INFO("units of " << unit << " rows of " << hidden);
  const Shape shape{kUnits * unit, hidden};
  const Tensor dy = devices.rounded(random_tensor(shape, "dy", devices.cpu), dtype);
  const Tensor x = devices.rounded(random_tensor(shape, "x", devices.cpu), dtype);
  const Tensor gain = devices.rounded(random_tensor(Shape{hidden}, "gain", devices.cpu), dtype);
  const Tensor inv_rms = random_tensor(Shape{shape[0]}, "inv_rms", devices.cpu);
  const GainInputs all{devices.to_cuda(dy, dtype), devices.to_cuda(x, dtype),
                       devices.to_cuda(gain, dtype), devices.to_cuda(inv_rms)};
  const std::vector<std::int64_t> together = gain_sum({all}, unit, devices.cuda);

  std::vector<GainInputs> units;
  std::vector<std::int64_t> added(static_cast<std::size_t>(hidden), 0);
  for (std::int64_t first = 0; first < shape[0]; first += unit) {
    units.push_back(all.rows(first, first + unit));
    // A call without units is one.
    const std::vector<std::int64_t> alone = gain_sum({units.back()}, 0, devices.cuda);
    std::ranges::transform(added, alone, added.begin(), std::plus());
  }
  CHECK(added == together);
  CHECK(gain_sum(units, unit, devices.cuda) == together);
  CHECK(gain_sum({all.rows(0, 2 * unit), all.rows(2 * unit, shape[0])}, unit, devices.cuda) ==
        together);
  const GainInputs elsewhere{devices.to_cuda_misaligned(dy, dtype),
                             devices.to_cuda_misaligned(x, dtype), all.gain, all.inv_rms};
  CHECK(gain_sum({elsewhere}, unit, devices.cuda) == together);

  Tensor found = devices.empty(Shape{hidden}, DType::kFloat32);
  round_gradient(devices.to_cuda(tensor_of(together, Shape{hidden}, devices.cpu)), kFractionBits,
                 found, devices.cuda);
  const Tensor zeros = filled(Shape{hidden}, 0.0F, devices.cpu);
  CHECK(largest_error(devices.to_cpu(found), gain_gradient(zeros, dy, x, inv_rms)) < 1e-5);
  CHECK(gain_sum({all.rows(0, 0)}, unit, devices.cuda) ==
        std::vector<std::int64_t>(static_cast<std::size_t>(hidden), 0));
}

TEST_CASE("The gain's gradient in integers on CUDA, of units of one row, is that of the CPU") {
  Devices devices;
  // More sums than are kept at a time.
  const Shape shape{600, 8192};
  const GainInputs here{random_tensor(shape, "dy", devices.cpu),
                        random_tensor(shape, "x", devices.cpu),
                        random_tensor(Shape{8192}, "gain", devices.cpu),
                        random_tensor(Shape{600}, "inv_rms", devices.cpu)};
  const GainInputs there{devices.to_cuda(here.dy), devices.to_cuda(here.x),
                         devices.to_cuda(here.gain), devices.to_cuda(here.inv_rms)};
  CHECK(gain_sum({there}, 1, devices.cuda) == gain_sum({here}, 1, devices.cpu));
}

TEST_CASE("The gain's gradient in integers on CUDA refuses what the CPU refuses") {
  Devices devices;
  constexpr std::int64_t kUnit = 16;
  constexpr std::int64_t kHidden = 21;
  const Shape shape{3 * kUnit, kHidden};
  // Sums of few small integers are exact in any order.
  Tensor dy = random_tensor(shape, "dy", devices.cpu);
  std::ranges::transform(dy.values<float>(), dy.mutable_values<float>().begin(),
                         [](float x) { return std::round(4.0F * x); });
  dy.mutable_values<float>()[5] = std::numeric_limits<float>::quiet_NaN();
  const Tensor ones = filled(shape, 1.0F, devices.cpu);
  const Tensor gain = filled(Shape{kHidden}, 1.0F, devices.cpu);
  const Tensor inv_rms = filled(Shape{shape[0]}, 1.0F, devices.cpu);
  const auto sum_on = [&](Stream& stream, const auto& place) {
    GradientSum sum = integer_sum({kHidden}, 40, 17.0F, stream);
    sum.unit_rows = kUnit;
    Tensor dx = Tensor::empty(shape, DType::kFloat32, stream);
    rms_norm_backward(place(dy), {place(ones), place(gain), place(inv_rms)}, dx, sum, stream);
    std::vector<std::int64_t> numbers = to_host<std::int64_t>(sum.sum, stream);
    numbers.push_back(to_host<std::int64_t>(sum.num_refused, stream)[0]);
    return numbers;
  };
  const auto want = sum_on(devices.cpu, [](const Tensor& tensor) { return tensor; });
  CHECK(want.back() > 1);
  CHECK(sum_on(devices.cuda, [&](const Tensor& tensor) { return devices.to_cuda(tensor); }) ==
        want);
}

}  // namespace fathom::kernels
