#include "kernels/elementwise.h"

#include "kernels/check_tensor.h"

namespace fathom::kernels {

constinit KernelSlot<void(const Tensor&, const Tensor&, Tensor&, Stream&)> add_slot{"add"};
constinit KernelSlot<void(Tensor&, const Tensor&, Stream&)> add_in_place_slot{"add_in_place"};
constinit KernelSlot<void(Tensor&, float, Stream&)> scale_slot{"scale"};
constinit KernelSlot<void(Tensor&, float, Stream&)> fill_slot{"fill"};
constinit KernelSlot<void(const Tensor&, Tensor&, Stream&)> copy_slot{"copy"};
constinit KernelSlot<void(const Tensor&, Tensor&, Stream&)> convert_slot{"convert"};
constinit KernelSlot<void(const Tensor&, int, Tensor&, int, int, Stream&)> copy_columns_slot{
    "copy_columns"};

namespace {

bool is_floating(DType dtype) { return dtype == DType::kFloat32 || dtype == DType::kBFloat16; }

}  // namespace

void add(const Tensor& a, const Tensor& b, Tensor& out, Stream& stream) {
  const TensorCheck check("add", stream);
  const DType dtype = check.activation_dtype("a", a);
  check.numel("b", b, a.numel(), dtype);
  check.numel("out", out, a.numel(), dtype);
  add_slot(stream, a, b, out);
}

void add_in_place(Tensor& a, const Tensor& b, Stream& stream) {
  const TensorCheck check("add_in_place", stream);
  if (a.dtype() == DType::kInt64) {
    check.dtype_and_device("a", a, DType::kInt64);
  } else {
    check.activation_dtype("a", a);
  }
  check.numel("b", b, a.numel(), a.dtype());
  add_in_place_slot(stream, a, b);
}

void scale(Tensor& x, float factor, Stream& stream) {
  TensorCheck("scale", stream).activation_dtype("x", x);
  scale_slot(stream, x, factor);
}

void fill(Tensor& x, float value, Stream& stream) {
  TensorCheck("fill", stream).dtype_and_device("x", x, x.dtype());
  fill_slot(stream, x, value);
}

void copy(const Tensor& from, Tensor& to, Stream& stream) {
  FATHOM_CHECK(from.numel() == to.numel() && from.dtype() == to.dtype(), "copy: from ",
               from.shape(), " ", from.dtype(), " to ", to.shape(), " ", to.dtype());
  copy_slot(stream, from, to);
}

void convert(const Tensor& from, Tensor& to, Stream& stream) {
  FATHOM_CHECK(from.dtype() == to.dtype() || (is_floating(from.dtype()) && is_floating(to.dtype())),
               "convert: from ", from.dtype(), " to ", to.dtype());
  const TensorCheck check("convert", stream);
  check.dtype_and_device("from", from, from.dtype());
  check.numel("to", to, from.numel(), to.dtype());
  if (from.dtype() == to.dtype()) {
    copy_slot(stream, from, to);
  } else {
    convert_slot(stream, from, to);
  }
}

void copy_columns(const Tensor& from, int from_first, Tensor& to, int to_first, int num_columns,
                  Stream& stream) {
  FATHOM_CHECK(from_first >= 0 && to_first >= 0 && num_columns >= 0, "copy_columns: ", num_columns,
               " from ", from_first, " to ", to_first);
  const TensorCheck check("copy_columns", stream);
  check.rank("from", from, 2);
  const DType dtype = check.activation_dtype("from", from);
  check.rows("from", from, from.size(0), std::int64_t{from_first} + num_columns, dtype);
  check.rows("to", to, from.size(0), std::int64_t{to_first} + num_columns, dtype);
  copy_columns_slot(stream, from, from_first, to, to_first, num_columns);
}

}  // namespace fathom::kernels
