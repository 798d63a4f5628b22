#pragma once

#include <optional>

#include "core/stream.h"
#include "parallel/state_visitor.h"

namespace fathom::parallel {

// Shows a visitor that works on host memory the state of any device: each tensor as a copy on the
// host, which goes back when the visitor writes. Tensors of the CPU are shown as they are.
class HostState final : public StateVisitor {
 public:
  // Both outlive it.
  HostState(StateVisitor& visitor, Stream& stream) : visitor_(&visitor), stream_(&stream) {}
  Access access() const noexcept override { return visitor_->access(); }
  void tensor(const StateSlice& slice, Tensor& local) override;
  void integer(const std::string& key, std::int64_t& value) override {
    visitor_->integer(key, value);
  }

 private:
  StateVisitor* visitor_;
  Stream* stream_;
  std::optional<Stream> host_;  // once a tensor is on a device
};

}  // namespace fathom::parallel
