#pragma once

#include <cstdint>
#include <string>

#include "core/tensor.h"
#include "parallel/comm/communicator.h"
#include "parallel/state_visitor.h"

namespace fathom::trainer {

// Hashes of state that do not depend on how it is cut: the sum modulo 2^64, over elements, of a
// hash of (index in the global shape, bits), seeded by XXH3-128 of key, dtype and global shape. So
// slices may come in any order, from any rank, and their hashes add up.

// The sum over the elements of one slice, owned or not. `local` as StateVisitor shows it, of any
// dtype, on the stream's device.
std::uint64_t hash_elements(const parallel::StateSlice& slice, const Tensor& local, Stream& stream);
// The same for a number.
std::uint64_t hash_integer(const std::string& key, std::int64_t value);

// The hash of everything that a rank shows: every owned element once, and the integers. Tensors are
// hashed where they are.
class StateHash final : public parallel::StateVisitor {
 public:
  // `stream` outlives it; all tensors are on its device.
  explicit StateHash(Stream& stream);
  Access access() const noexcept override { return Access::kRead; }
  void tensor(const parallel::StateSlice& slice, Tensor& local) override;
  void integer(const std::string& key, std::int64_t& value) override;

  // Collective: the hash of the state of all ranks, the same on each of them. Throws InternalError
  // when the ranks do not show the same integers.
  std::uint64_t total(parallel::Communicator& world) const;

 private:
  Stream* stream_;
  Tensor elements_;  // [1] int64: not waited for before the end
  std::uint64_t integers_ = 0;
};

}  // namespace fathom::trainer
