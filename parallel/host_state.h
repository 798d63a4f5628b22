#pragma once

#include <optional>

#include "core/stream.h"
#include "parallel/copied_state.h"

namespace fathom::parallel {

// Shows a visitor that works on host memory the state of any device: each tensor as a copy on the
// host, which goes back when the visitor writes. Tensors of the CPU are shown as they are.
class HostState final : public CopiedState {
 public:
  // Both outlive it.
  HostState(StateVisitor& visitor, Stream& stream) : CopiedState(visitor), stream_(&stream) {}

 private:
  Tensor room_for(const Tensor& local) override;
  void copy_out(const Tensor& local, Tensor& copy) override;
  void copy_back(const Tensor& copy, Tensor& local) override;

  Stream* stream_;
  std::optional<Stream> host_;  // once a tensor is on a device
};

}  // namespace fathom::parallel
