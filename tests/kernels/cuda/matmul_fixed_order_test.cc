// Products on streams of SumOrder::kFixed, by ==.

#include <algorithm>
#include <vector>

#include "kernels/matmul.h"
#include "tests/kernels/cuda/devices.h"

namespace fathom::kernels {
namespace {

struct Case {
  DType factors = DType::kFloat32;
  DType results = DType::kFloat32;
  std::int64_t rows = 0;
  std::int64_t inner = 0;
  std::int64_t columns = 0;
};

// Columns [begin, end) of a matrix on the CPU.
Tensor columns_of(const Tensor& matrix, std::int64_t begin, std::int64_t end, Devices& devices) {
  std::vector<float> values;
  for (std::int64_t row = 0; row < matrix.size(0); ++row) {
    const float* const from = matrix.data<float>() + row * matrix.size(1);
    values.insert(values.end(), from + begin, from + end);
  }
  return tensor_of(values, Shape{matrix.size(0), end - begin}, devices.cpu);
}

// Both products of rows times weights, as left [rows, inner], right and result [rows, columns].
struct RowProduct {
  bool is_forward = true;

  // A part of the columns, or of the inner dimension, of `right`.
  Tensor some_columns(const Tensor& right, std::int64_t begin, std::int64_t end,
                      Devices& devices) const {
    return is_forward ? right.narrow(begin, end) : columns_of(right, begin, end, devices);
  }
  Tensor some_inner(const Tensor& right, std::int64_t begin, std::int64_t end,
                    Devices& devices) const {
    return is_forward ? columns_of(right, begin, end, devices) : right.narrow(begin, end);
  }
  Shape right_shape(std::int64_t inner, std::int64_t columns) const {
    return is_forward ? Shape{columns, inner} : Shape{inner, columns};
  }
  void operator()(const Tensor& left, const Tensor& right, Tensor& result, int num_chunks,
                  Devices& devices) const {
    if (is_forward) {
      matmul_forward(left, right, result, num_chunks, devices.cuda);
    } else {
      matmul_backward_input(left, right, result, {Accumulate::kOverwrite, num_chunks},
                            devices.cuda);
    }
  }
  // Of matrices on the CPU, the result too.
  Tensor of(const Tensor& left, const Tensor& right, const Case& how, int num_chunks,
            Devices& devices) const {
    Tensor result = devices.empty({left.size(0), right.size(is_forward ? 0 : 1)}, how.results);
    (*this)(devices.to_cuda(left, how.factors), devices.to_cuda(right, how.factors), result,
            num_chunks, devices);
    return devices.to_cpu(result);
  }
};

bool same_bits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && count_differences(a.values<float>(), b.values<float>()) == 0;
}

// bfloat16 on tensor cores and not, float32; a result of either.
Case small_case() {
  return GENERATE(Case{DType::kFloat32, DType::kFloat32, 150, 45, 75},
                  Case{DType::kBFloat16, DType::kBFloat16, 150, 45, 75},
                  Case{DType::kBFloat16, DType::kFloat32, 150, 45, 75},
                  Case{DType::kBFloat16, DType::kBFloat16, 300, 136, 200},
                  Case{DType::kBFloat16, DType::kFloat32, 300, 136, 200});
}

// In one order or the other a device takes wide tiles for all rows and columns, and narrow ones for
// a part. Whether their chains are alike a real device alone can tell, over a ring of panels and
// more; depth takes the emulated one long.
Case wide_case() {
#ifdef FATHOM_EMULATED_DEVICE
  constexpr std::int64_t kDepth = 8;
#else
  constexpr std::int64_t kDepth = 2056;
#endif
  return GENERATE(Case{DType::kBFloat16, DType::kBFloat16, 1000, kDepth, 4608},
                  Case{DType::kBFloat16, DType::kFloat32, 1000, kDepth, 4608});
}

void check_parts(const RowProduct& product, const Case& how, Devices& devices) {
  const Tensor left = random_tensor({how.rows, how.inner}, "left", devices.cpu);
  const Tensor right =
      random_tensor(product.right_shape(how.inner, how.columns), "right", devices.cpu);
  const Tensor all = product.of(left, right, how, 1, devices);
  for (const auto& [begin, end] : {std::pair{0, 1}, std::pair{37, 44}}) {
    CHECK(same_bits(product.of(left.narrow(begin, end), right, how, 1, devices),
                    all.narrow(begin, end)));
  }
  const Tensor some = product.some_columns(right, 16, 40, devices);
  CHECK(same_bits(product.of(left, some, how, 1, devices), columns_of(all, 16, 40, devices)));
}

TEST_CASE("Rows and columns of a product in fixed order do not depend on the others") {
  Devices devices = devices_of_fixed_order();
  check_parts({GENERATE(true, false)}, small_case(), devices);
}

TEST_CASE("Nor do they in wide tiles") {
  Devices devices = devices_of_fixed_order();
  check_parts({GENERATE(true, false)}, wide_case(), devices);
}

// Values of `matrix`, and beside them `spare` columns of `value`.
Tensor with_spare_columns(const Tensor& matrix, std::int64_t spare, float value, Devices& devices) {
  Tensor wide = filled({matrix.size(0), matrix.size(1) + spare}, value, devices.cpu);
  for (std::int64_t row = 0; row < matrix.size(0); ++row) {
    std::copy_n(matrix.data<float>() + row * matrix.size(1), matrix.size(1),
                wide.mutable_data<float>() + row * wide.size(1));
  }
  return wide;
}

TEST_CASE("Columns that a product in fixed order does not need change nothing") {
  Devices devices = devices_of_fixed_order();
  const Case how = small_case();
  const Tensor x = random_tensor({how.rows, how.inner}, "x", devices.cpu);
  const Tensor w = random_tensor({how.columns, how.inner}, "w", devices.cpu);
  const Tensor dy = random_tensor({how.rows, how.columns}, "dy", devices.cpu);
  const Tensor x_wide = with_spare_columns(x, 8, std::numeric_limits<float>::infinity(), devices);

  CHECK(same_bits(RowProduct{true}.of(x_wide, w, how, 1, devices),
                  RowProduct{true}.of(x, w, how, 1, devices)));

  Tensor dx = devices.to_cuda(filled(x_wide.shape(), 3.0F, devices.cpu), how.results);
  RowProduct{false}(devices.to_cuda(dy, how.factors), devices.to_cuda(w, how.factors), dx, 1,
                    devices);
  CHECK(same_bits(
      devices.to_cpu(dx),
      with_spare_columns(RowProduct{false}.of(dy, w, how, 1, devices), 8, 3.0F, devices)));

  std::vector<Tensor> gradients;
  for (const Tensor& rows : {x, x_wide}) {
    GradientSum dw = float_sum(devices.empty(w.shape(), DType::kFloat32));
    dw.is_empty = true;
    matmul_backward_weight(devices.to_cuda(dy, how.factors), devices.to_cuda(rows, how.factors), dw,
                           devices.cuda);
    gradients.push_back(devices.to_cpu(dw.sum));
  }
  CHECK(same_bits(gradients[0], gradients[1]));
}

TEST_CASE("A product in fixed order is added in float32 and rounded once") {
  Devices devices = devices_of_fixed_order();
  const Case how = small_case();
  const Tensor dy = random_tensor({how.rows, how.inner}, "dy", devices.cpu);
  const Tensor w = random_tensor({how.inner, how.columns}, "w", devices.cpu);
  const Tensor old =
      devices.rounded(random_tensor({how.rows, how.columns}, "old dx", devices.cpu), how.results);
  Tensor dx = devices.to_cuda(old, how.results);
  matmul_backward_input(devices.to_cuda(dy, how.factors), devices.to_cuda(w, how.factors), dx,
                        {Accumulate::kAdd, 1}, devices.cuda);
  Case floats = how;
  floats.results = DType::kFloat32;
  Tensor sum = RowProduct{false}.of(dy, w, floats, 1, devices);
  for (std::int64_t i = 0; i < sum.numel(); ++i) {
    sum.mutable_data<float>()[i] = old.data<float>()[i] + sum.data<float>()[i];
  }
  CHECK(same_bits(devices.to_cpu(dx), devices.rounded(sum, how.results)));
}

// The products of num_chunks slices of the inner dimension, in float32.
std::vector<Tensor> slices_of(const RowProduct& product, const Tensor& left, const Tensor& right,
                              Case how, int num_chunks, Devices& devices) {
  how.results = DType::kFloat32;
  const std::int64_t size = left.size(1) / num_chunks;
  std::vector<Tensor> slices;
  for (std::int64_t begin = 0; begin < left.size(1); begin += size) {
    slices.push_back(product.of(columns_of(left, begin, begin + size, devices),
                                product.some_inner(right, begin, begin + size, devices), how, 1,
                                devices));
  }
  return slices;
}

Tensor sum_of(const Tensor& a, const Tensor& b, Devices& devices) {
  Tensor sum = Tensor::empty(a.shape(), DType::kFloat32, devices.cpu);
  std::transform(a.data<float>(), a.data<float>() + a.numel(), b.data<float>(),
                 sum.mutable_data<float>(), [](float x, float y) { return x + y; });
  return sum;
}

// Neighbours are added until one is left.
Tensor tree_of(std::vector<Tensor> parts, Devices& devices) {
  while (parts.size() > 1) {
    std::vector<Tensor> pairs;
    for (std::size_t i = 0; i < parts.size(); i += 2) {
      pairs.push_back(sum_of(parts[i], parts[i + 1], devices));
    }
    parts = pairs;
  }
  return parts[0];
}

TEST_CASE("A sum of chunks is the binary tree over the products of slices, rounded once") {
  Devices devices = devices_of_fixed_order();
  const RowProduct product{GENERATE(true, false)};
  const int num_chunks = GENERATE(2, 4, 8);
  // Chunks of a size for tensor cores, 24, and not, 9.
  const Case how = GENERATE(Case{DType::kFloat32, DType::kFloat32, 70, 72, 40},
                            Case{DType::kBFloat16, DType::kBFloat16, 130, 192, 40},
                            Case{DType::kBFloat16, DType::kFloat32, 70, 192, 264},
                            Case{DType::kBFloat16, DType::kBFloat16, 70, 72, 40});
  const Tensor left = random_tensor({how.rows, how.inner}, "left", devices.cpu);
  const Tensor right =
      random_tensor(product.right_shape(how.inner, how.columns), "right", devices.cpu);
  const std::vector<Tensor> slices = slices_of(product, left, right, how, num_chunks, devices);
  const Tensor found = product.of(left, right, how, num_chunks, devices);
  CHECK(same_bits(found, devices.rounded(tree_of(slices, devices), how.results)));
  CHECK(same_bits(product.of(left.narrow(50, 57), right, how, num_chunks, devices),
                  found.narrow(50, 57)));

  // A tensor rank that has the second half of the chunks.
  Case half = how;
  half.results = DType::kFloat32;
  const std::int64_t middle = how.inner / 2;
  const Tensor subtree = product.of(columns_of(left, middle, how.inner, devices),
                                    product.some_inner(right, middle, how.inner, devices), half,
                                    num_chunks / 2, devices);
  CHECK(same_bits(subtree, tree_of({slices.begin() + num_chunks / 2, slices.end()}, devices)));
}

TEST_CASE("A sum of chunks of more rows than are kept at a time has the bits of few rows") {
  Devices devices = devices_of_fixed_order();
  const Case how{DType::kFloat32, DType::kFloat32, 1100, 16, 1024};
  const Tensor left = random_tensor({how.rows, how.inner}, "left", devices.cpu);
  const Tensor right = random_tensor({how.columns, how.inner}, "right", devices.cpu);
  const Tensor all = RowProduct{true}.of(left, right, how, 16, devices);
  for (const auto& [begin, end] : {std::pair{0, 3}, std::pair{1020, 1030}, std::pair{1098, 1100}}) {
    CHECK(same_bits(RowProduct{true}.of(left.narrow(begin, end), right, how, 16, devices),
                    all.narrow(begin, end)));
  }
}

TEST_CASE("A product of bfloat16 in fixed order refuses what would choose another kernel") {
  Devices devices = devices_of_fixed_order();
  const Tensor w = devices.empty({16, 24}, DType::kBFloat16);
  Tensor y = devices.empty({4, 16}, DType::kBFloat16);
  const Tensor odd_rows = devices.empty({4, 25}, DType::kBFloat16);
  CHECK_THROWS_AS(matmul_forward(odd_rows, w, y, 1, devices.cuda), InternalError);
  const Tensor odd_address =
      devices.empty({4 * 24 + 1}, DType::kBFloat16).view_elements(1, {4, 24});
  CHECK_THROWS_AS(matmul_forward(odd_address, w, y, 1, devices.cuda), InternalError);
}

}  // namespace
}  // namespace fathom::kernels
