#include "kernels/packed_matmul.h"

#include <bit>
#include <string_view>

#include "kernels/check_tensor.h"
#include "kernels/cpu/packed_matmul.h"

namespace fathom::kernels {

constinit KernelSlot<void(const Tensor&, const Tensor&, Tensor&, Stream&)>
    packed_head_matmul_forward_slot("packed_head_matmul_forward");

namespace {

constexpr std::int64_t kPanel = 16;

// For what the CPU alone does: whether there is anything to do on this stream.
bool is_on_cpu(std::string_view operation, const Stream& stream) {
  FATHOM_CHECK(stream.device().type == DeviceType::kCpu || stream.is_meta(), operation, " on ",
               stream.device(), ": a function of the CPU; other devices take the weights unpacked");
  return !stream.is_meta();
}

}  // namespace

Shape packed_shape(const Shape& weight) {
  FATHOM_CHECK(weight.rank() == 2 || weight.rank() == 3, "w ", weight);
  const std::int64_t num_panels = (weight[-2] + kPanel - 1) / kPanel;
  return weight.rank() == 2 ? Shape{num_panels, weight[-1], kPanel}
                            : Shape{weight[0], num_panels, weight[-1], kPanel};
}

void pack_weight(const Tensor& w, Tensor& packed, Stream& stream) {
  const TensorCheck check("pack_weight", stream);
  check.shape("w", w, w.shape());
  check.shape("packed", packed, packed_shape(w.shape()));
  if (is_on_cpu("pack_weight", stream)) {
    cpu::pack_weight(w, packed, stream);
  }
}

void packed_matmul_forward(const Tensor& x, const Tensor& packed, Tensor& y, int num_chunks,
                           Stream& stream) {
  const TensorCheck check("packed_matmul_forward", stream);
  check.rank("packed", packed, 3);
  const std::int64_t in_size = packed.size(1);
  check.rank("x", x, 2);
  check.rows("x", x, x.size(0), in_size);
  check.rows("y", y, x.size(0), 0);
  check.shape("packed", packed, packed_shape(Shape{y.size(1), in_size}));
  FATHOM_CHECK(num_chunks > 0 && std::has_single_bit(static_cast<unsigned>(num_chunks)) &&
                   in_size % num_chunks == 0,
               num_chunks, " chunks of an inner size of ", in_size);
  if (is_on_cpu("packed_matmul_forward", stream)) {
    cpu::packed_matmul_forward(x, packed, y, num_chunks, stream);
  }
}

void packed_grouped_matmul_forward(const Tensor& x, const Tensor& packed, const Tensor& offsets,
                                   Tensor& y, Stream& stream) {
  const TensorCheck check("packed_grouped_matmul_forward", stream);
  check.rank("packed", packed, 4);
  check.rank("x", x, 2);
  check.shape("x", x, {x.size(0), packed.size(2)});
  check.rows("y", y, x.size(0), 0);
  check.shape("packed", packed, packed_shape(Shape{packed.size(0), y.size(1), packed.size(2)}));
  check.shape("offsets", offsets, {packed.size(0) + 1}, DType::kInt64);
  if (is_on_cpu("packed_grouped_matmul_forward", stream)) {
    cpu::packed_grouped_matmul_forward(x, packed, offsets, y, stream);
  }
}

void packed_head_matmul_forward(const Tensor& x, const Tensor& packed, Tensor& y, Stream& stream) {
  const TensorCheck check("packed_head_matmul_forward", stream);
  check.rank("packed", packed, 4);
  check.rank("x", x, 2);
  const std::int64_t num_heads = packed.size(0);
  const DType dtype = check.activation_dtype("x", x);
  check.rows("x", x, x.size(0), num_heads * packed.size(2), dtype);
  check.rows("y", y, x.size(0), 0, dtype);
  FATHOM_CHECK(x.size(1) % num_heads == 0 && y.size(1) % num_heads == 0, num_heads,
               " heads of x with ", x.size(1), " columns and y with ", y.size(1));
  check.shape("packed", packed,
              packed_shape(Shape{num_heads, y.size(1) / num_heads, packed.size(2)}), dtype);
  packed_head_matmul_forward_slot(stream, x, packed, y);
}

}  // namespace fathom::kernels
