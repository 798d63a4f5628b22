#include "parallel/copied_state.h"

namespace fathom::parallel {

void CopiedState::tensor(const StateSlice& slice, Tensor& local) {
  Tensor copy = room_for(local);
  if (!copy.defined()) {
    visitor_->tensor(slice, local);
    return;
  }
  if (access() != Access::kLook) {  // one that writes may leave this tensor as it is
    copy_out(local, copy);
  }
  visitor_->tensor(slice, copy);
  if (access() == Access::kWrite) {
    copy_back(copy, local);
  }
}

}  // namespace fathom::parallel
