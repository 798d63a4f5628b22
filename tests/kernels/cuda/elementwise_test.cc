#include "kernels/elementwise.h"

#include "tests/kernels/cuda/devices.h"

namespace fathom::kernels {
namespace {

// Elements from `first` of a GPU tensor with these values: an address that 16-byte accesses do not
// allow when `first` is odd.
Tensor part_on_cuda(const Tensor& values, std::int64_t first, DType dtype, Devices& devices) {
  return devices.to_cuda(values, dtype).view_elements(first, Shape{values.numel() - first});
}

}  // namespace

TEST_CASE("Element-wise arithmetic on CUDA is that of the CPU") {
  Devices devices;
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  const std::int64_t first = GENERATE(0, 1);
  const std::int64_t size = GENERATE(1, 8, 15, 2049);
  const Shape shape{size};
  const Tensor a = devices.rounded(random_tensor(shape, "a", devices.cpu), dtype);
  const Tensor b = devices.rounded(random_tensor(shape, "b", devices.cpu), dtype);
  const Tensor a_part = a.view_elements(first, Shape{size - first});
  const Tensor b_part = b.view_elements(first, Shape{size - first});
  Tensor there = part_on_cuda(a, first, dtype, devices);
  const Tensor other = part_on_cuda(b, first, dtype, devices);

  Tensor want = Tensor::empty(a_part.shape(), DType::kFloat32, devices.cpu);
  Tensor found = devices.empty(a_part.shape(), dtype);
  add(a_part, b_part, want, devices.cpu);
  add(there, other, found, devices.cuda);
  CHECK(largest_error(found, want, devices) < tolerance(dtype));

  add_in_place(there, other, devices.cuda);
  CHECK(largest_error(there, want, devices) < tolerance(dtype));

  Tensor scaled = tensor_of(vector_of(b_part), b_part.shape(), devices.cpu);
  scale(scaled, -1.7F, devices.cpu);
  scale(found, 0.0F, devices.cuda);
  add_in_place(found, other, devices.cuda);  // b
  scale(found, -1.7F, devices.cuda);
  CHECK(largest_error(found, scaled, devices) < tolerance(dtype));
}

TEST_CASE("Element-wise operations on CUDA take empty tensors") {
  Devices devices;
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  Tensor none = devices.empty(Shape{0}, dtype);
  add(none, none, none, devices.cuda);
  add_in_place(none, none, devices.cuda);
  scale(none, 2.0F, devices.cuda);
  fill(none, 2.0F, devices.cuda);
  copy(none, none, devices.cuda);
  Tensor no_rows = devices.empty(Shape{0, 4}, dtype);
  Tensor other = devices.empty(Shape{0, 4}, dtype);
  copy_columns(no_rows, 1, other, 2, 2, devices.cuda);
  CHECK(to_host<BFloat16>(devices.empty(Shape{0}, DType::kBFloat16), devices.cuda).empty());
}

TEST_CASE("add_in_place on CUDA takes int64 beyond the range of doubles") {
  Devices devices;
  const std::int64_t large = (std::int64_t{1} << 60) + 1;
  const Tensor other =
      devices.to_cuda(tensor_of<std::int64_t>({large, 3, -1}, Shape{3}, devices.cpu));
  Tensor sum = devices.to_cuda(tensor_of<std::int64_t>({large, -5, 0}, Shape{3}, devices.cpu));
  add_in_place(sum, other, devices.cuda);
  CHECK(to_host<std::int64_t>(sum, devices.cuda) == std::vector<std::int64_t>{2 * large, -2, -1});
}

TEST_CASE("fill on CUDA rounds to every dtype and touches nothing else") {
  Devices devices;
  const std::int64_t size = GENERATE(1, 4, 37);
  const std::int64_t first = GENERATE(0, 3);
  const auto filled_part = [&]<class T>(T before, float value) {
    const auto count = static_cast<std::size_t>(size + first + 2);
    Tensor whole = devices.empty(Shape{size + first + 2}, kDTypeOf<T>);
    from_host<T>(std::vector<T>(count, before), whole, devices.cuda);
    Tensor part = whole.view_elements(first, Shape{size});
    fill(part, value, devices.cuda);
    return to_host<T>(whole, devices.cuda);
  };
  const auto want = [&]<class T>(T before, T value) {
    std::vector<T> values(static_cast<std::size_t>(size + first + 2), before);
    std::fill_n(values.begin() + first, size, value);
    return values;
  };
  CHECK(filled_part(1.0F, -7.25F) == want(1.0F, -7.25F));
  CHECK(filled_part(std::int32_t{1}, 9.0F) == want(std::int32_t{1}, std::int32_t{9}));
  CHECK(filled_part(std::int64_t{1}, -3.0F) == want(std::int64_t{1}, std::int64_t{-3}));
  // Between 1 and 1 + 2^-7: a tie, to even.
  const std::vector<BFloat16> halves = filled_part(BFloat16(2.0F), 1.00390625F);
  std::vector<float> numbers;
  for (const BFloat16 half : halves) {
    numbers.push_back(static_cast<float>(half));
  }
  CHECK(numbers == want(2.0F, 1.0F));
}

TEST_CASE("convert on CUDA rounds as the CPU does, and back exactly") {
  Devices devices;
  const std::int64_t size = GENERATE(1, 7, 4001);
  const std::int64_t first = GENERATE(0, 1);
  Tensor values = random_tensor(Shape{size + first}, "values", devices.cpu);
  const std::vector<float> special{1.0F + 0x1p-8F, 1.0F + 0x1p-7F + 0x1p-8F, -0.0F,
                                   std::numeric_limits<float>::infinity(), 3.4e38F};
  for (std::size_t i = 0; i < special.size() && static_cast<std::int64_t>(i) < size; ++i) {
    values.mutable_values<float>()[i + static_cast<std::size_t>(first)] = special[i];
  }
  const Tensor from = values.view_elements(first, Shape{size});
  Tensor want = Tensor::empty(from.shape(), DType::kBFloat16, devices.cpu);
  convert(from, want, devices.cpu);
  Tensor halves = devices.empty(from.shape(), DType::kBFloat16);
  convert(part_on_cuda(values, first, DType::kFloat32, devices), halves, devices.cuda);
  std::vector<std::uint16_t> found_bits;
  std::vector<std::uint16_t> want_bits;
  for (const BFloat16 half : to_host<BFloat16>(halves, devices.cuda)) {
    found_bits.push_back(half.bits());
  }
  for (const BFloat16 half : want.values<BFloat16>()) {
    want_bits.push_back(half.bits());
  }
  CHECK(found_bits == want_bits);
  Tensor back = devices.empty(from.shape(), DType::kFloat32);
  convert(halves, back, devices.cuda);
  Tensor want_back = Tensor::empty(from.shape(), DType::kFloat32, devices.cpu);
  convert(want, want_back, devices.cpu);
  CHECK(bytes_of(devices.to_cpu(back)) == bytes_of(want_back));
}

TEST_CASE("copy on CUDA copies any dtype") {
  Devices devices;
  const Tensor values = tensor_of<std::int64_t>({5, -6, 7}, Shape{3}, devices.cpu);
  Tensor to = devices.empty(Shape{3}, DType::kInt64);
  copy(devices.to_cuda(values), to, devices.cuda);
  CHECK(to_host<std::int64_t>(to, devices.cuda) == vector_of<std::int64_t>(values));
  Tensor here = Tensor::empty(Shape{3}, DType::kInt64, devices.cpu);
  CHECK_THROWS_AS(copy(to, here, devices.cuda), InternalError);
}

TEST_CASE("copy_columns on CUDA writes its columns and no others, whatever they divide by") {
  struct Columns {
    std::int64_t from_width;
    int from_first;
    std::int64_t to_width;
    int to_first;
    int count;
  };
  Devices devices;
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  const std::int64_t rows = GENERATE(1, 5, 70);
  const Columns columns =
      GENERATE(Columns{7, 3, 5, 1, 3}, Columns{64, 16, 24, 8, 16}, Columns{64, 16, 32, 8, 13},
               Columns{12, 2, 10, 4, 6}, Columns{8, 4, 8, 4, 4}, Columns{600, 8, 1040, 16, 592},
               Columns{3, 0, 3, 0, 0});
  const Tensor from =
      devices.rounded(random_tensor(Shape{rows, columns.from_width}, "from", devices.cpu), dtype);
  Tensor want = filled(Shape{rows, columns.to_width}, -1.0F, devices.cpu);
  Tensor found = devices.to_cuda(want, dtype);
  copy_columns(from, columns.from_first, want, columns.to_first, columns.count, devices.cpu);
  copy_columns(devices.to_cuda(from, dtype), columns.from_first, found, columns.to_first,
               columns.count, devices.cuda);
  CHECK(vector_of(devices.to_cpu(found)) == vector_of(want));
}

}  // namespace fathom::kernels
