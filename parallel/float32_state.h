#pragma once

#include "core/stream.h"
#include "parallel/state_visitor.h"

namespace fathom::parallel {

// Shows a visitor the floating-point state of any dtype as float32, in copies on the same device
// that are rounded back when the visitor writes: for state that is to be stored alike, whatever a
// run computes with. bfloat16 comes back as it was.
class Float32State final : public StateVisitor {
 public:
  // Both outlive it.
  Float32State(StateVisitor& visitor, Stream& stream) : visitor_(&visitor), stream_(&stream) {}
  Access access() const noexcept override { return visitor_->access(); }
  void tensor(const StateSlice& slice, Tensor& local) override;
  void integer(const std::string& key, std::int64_t& value) override {
    visitor_->integer(key, value);
  }

 private:
  StateVisitor* visitor_;
  Stream* stream_;
};

}  // namespace fathom::parallel
