#include "trainer/generation/drawn_rows.h"

#include <bit>

#include "core/error.h"
#include "core/host_copy.h"
#include "core/round_up.h"

namespace fathom::trainer {

DrawnRows::DrawnRows(std::int64_t num_rows, Stream& stream)
    : num_rows_(num_rows), first_logprob_(round_up(num_rows, 64)) {  // aligned to 256 bytes
  numbers_ = Tensor::empty(Shape{first_logprob_ + num_rows}, DType::kInt32, stream);
}

Tensor DrawnRows::tokens() const { return numbers_.narrow(0, num_rows_); }

Tensor DrawnRows::logprobs() const {
  return numbers_.view_elements(first_logprob_, Shape{num_rows_})
      .view_as(DType::kFloat32, Shape{num_rows_});
}

std::vector<Drawn> DrawnRows::to_host(std::int64_t count, Stream& stream) const {
  FATHOM_CHECK(count <= num_rows_, count, " of ", num_rows_, " rows");
  const std::vector<std::int32_t> numbers = fathom::to_host<std::int32_t>(numbers_, stream);
  std::vector<Drawn> drawn;
  for (std::int64_t i = 0; i < count; ++i) {
    drawn.push_back({numbers[static_cast<std::size_t>(i)],
                     std::bit_cast<float>(numbers[static_cast<std::size_t>(first_logprob_ + i)])});
  }
  return drawn;
}

}  // namespace fathom::trainer
