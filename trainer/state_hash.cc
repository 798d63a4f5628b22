#include "trainer/state_hash.h"

#include <array>
#include <span>
#include <vector>

#include "core/error.h"
#include "core/host_copy.h"
#include "data/checksum.h"
#include "kernels/element_hashes.h"

namespace fathom::trainer {
namespace {

// The hash for the elements of one tensor, or for a number.
kernels::ElementHash hash_of_name(const std::string& name) {
  data::Checksum128 checksum;
  checksum.add(std::as_bytes(std::span(name)));
  const data::Bits128 seed = checksum.value();
  return {seed.high, seed.low | 1};
}

// sum += those of the elements of a slice.
void add_hashes(const parallel::StateSlice& slice, const Tensor& local, Tensor& sum,
                Stream& stream) {
  FATHOM_CHECK(local.numel() == slice.num_rows * slice.num_columns, slice.key, ": ", local.shape(),
               " for ", slice.num_rows, " x ", slice.num_columns);
  const std::int64_t row_size = slice.global_shape[-1];
  kernels::add_element_hashes(
      {.hash = hash_of_name(concat(slice.key, ' ', local.dtype(), ' ', slice.global_shape)),
       .first = static_cast<std::uint64_t>(slice.row_begin * row_size + slice.column_begin),
       .row_stride = static_cast<std::uint64_t>(row_size)},
      local.reshape(Shape{slice.num_rows, slice.num_columns}), sum, stream);
}

std::uint64_t value_of(const Tensor& sum, Stream& stream) {
  return static_cast<std::uint64_t>(to_host<std::int64_t>(sum, stream).front());
}

}  // namespace

std::uint64_t hash_elements(const parallel::StateSlice& slice, const Tensor& local,
                            Stream& stream) {
  Tensor sum = Tensor::zeros(Shape{1}, DType::kInt64, stream);
  add_hashes(slice, local, sum, stream);
  return value_of(sum, stream);
}

std::uint64_t hash_integer(const std::string& key, std::int64_t value) {
  return hash_of_name(key)(0, static_cast<std::uint64_t>(value));
}

StateHash::StateHash(Stream& stream)
    : stream_(&stream), elements_(Tensor::zeros(Shape{1}, DType::kInt64, stream)) {}

void StateHash::tensor(const parallel::StateSlice& slice, Tensor& local) {
  if (slice.is_owner) {
    add_hashes(slice, local, elements_, *stream_);
  }
}

void StateHash::integer(const std::string& key, std::int64_t& value) {
  integers_ += hash_integer(key, value);
}

std::uint64_t StateHash::total(parallel::Communicator& world) const {
  const std::array<std::int64_t, 2> mine = {
      static_cast<std::int64_t>(value_of(elements_, *stream_)),
      static_cast<std::int64_t>(integers_)};
  std::vector<std::int64_t> all(mine.size() * static_cast<std::size_t>(world.world_size()));
  world.all_gather_integers(mine, all);
  std::uint64_t sum = integers_;
  for (std::size_t i = 0; i < all.size(); i += mine.size()) {
    sum += static_cast<std::uint64_t>(all[i]);
    FATHOM_CHECK(all[i + 1] == all[1], "ranks 0 and ", i / mine.size(),
                 " differ in a number of the state that all ranks share");
  }
  return sum;
}

}  // namespace fathom::trainer
