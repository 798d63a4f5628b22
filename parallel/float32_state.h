#pragma once

#include "core/stream.h"
#include "parallel/copied_state.h"

namespace fathom::parallel {

// Shows a visitor the floating-point state of any dtype as float32, in copies on the same device
// that are rounded back when the visitor writes: for state that is to be stored alike, whatever a
// run computes with. bfloat16 comes back as it was.
class Float32State final : public CopiedState {
 public:
  // Both outlive it.
  Float32State(StateVisitor& visitor, Stream& stream) : CopiedState(visitor), stream_(&stream) {}

 private:
  Tensor room_for(const Tensor& local) override;
  void copy_out(const Tensor& local, Tensor& copy) override;
  void copy_back(const Tensor& copy, Tensor& local) override;

  Stream* stream_;
};

}  // namespace fathom::parallel
