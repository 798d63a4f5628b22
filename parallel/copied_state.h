#pragma once

#include "parallel/state_visitor.h"

namespace fathom::parallel {

// Shows a visitor copies of tensors instead of the tensors themselves, and brings back what a
// visitor writes into them. What kind of copy is up to the class below.
class CopiedState : public StateVisitor {
 public:
  Access access() const noexcept override { return visitor_->access(); }
  void tensor(const StateSlice& slice, Tensor& local) override;
  void integer(const std::string& key, std::int64_t& value) override {
    visitor_->integer(key, value);
  }

 protected:
  explicit CopiedState(StateVisitor& visitor) : visitor_(&visitor) {}

 private:
  // Room for the copy, of the same shape; undefined for a tensor that is shown as it is.
  virtual Tensor room_for(const Tensor& local) = 0;
  virtual void copy_out(const Tensor& local, Tensor& copy) = 0;
  virtual void copy_back(const Tensor& copy, Tensor& local) = 0;

  StateVisitor* visitor_;
};

}  // namespace fathom::parallel
