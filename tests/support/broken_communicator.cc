#include "tests/support/broken_communicator.h"

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include "core/host_copy.h"
#include "tests/support/forwarding_communicator.h"

namespace fathom::testing {
namespace {

using parallel::Communicator;
using parallel::ReduceOp;
using parallel::Work;

class BrokenCommunicator final : public ForwardingCommunicator {
 public:
  BrokenCommunicator(Communicator& whole, std::unique_ptr<Communicator> owned, Fault fault)
      : ForwardingCommunicator(whole, std::move(owned)), fault_(fault) {}

  Work all_reduce(Tensor& x, ReduceOp op, Stream& stream) override {
    if (is_reversed(x) && op == ReduceOp::kSum) {
      from_host<float>(reversed_sum(x, stream), x, stream);
      return {};
    }
    return inner().all_reduce(x, op, stream);
  }
  Work reduce_scatter(const Tensor& full, Tensor& shard, Stream& stream) override {
    if (is_reversed(full)) {
      const std::vector<float> sum = reversed_sum(full, stream);
      const auto count = static_cast<std::size_t>(shard.numel());
      from_host<float>(std::span(sum).subspan(static_cast<std::size_t>(rank()) * count, count),
                       shard, stream);
      return {};
    }
    if (fault_ == Fault::kDroppedContribution && full.dtype() == DType::kInt64 && rank() == 1) {
      Tensor alias = full;
      const auto values = alias.mutable_values<std::int64_t>();
      const auto found = std::find_if(values.begin(), values.end(), [](auto x) { return x != 0; });
      if (found != values.end()) {
        *found = 0;
      }
    }
    return inner().reduce_scatter(full, shard, stream);
  }
  std::unique_ptr<Communicator> group(std::span<const int> ranks,
                                      const std::string& group_name) override {
    auto made = inner().group(ranks, group_name);
    Communicator& reference = *made;
    return std::make_unique<BrokenCommunicator>(reference, std::move(made), fault_);
  }

 private:
  // Two ranks have only one order.
  bool is_reversed(const Tensor& x) const {
    return fault_ == Fault::kReversedSums && x.dtype() == DType::kFloat32 && world_size() > 2;
  }
  std::vector<float> reversed_sum(const Tensor& x, Stream& stream) {
    const std::int64_t count = x.numel();
    Tensor all = Tensor::empty(Shape{world_size() * count}, DType::kFloat32, stream);
    inner().all_gather(x.reshape(Shape{count}), all, stream).wait();
    const std::vector<float> terms = to_host<float>(all, stream);
    std::vector<float> sums(static_cast<std::size_t>(count));
    for (std::size_t i = terms.size(); i > 0; --i) {
      sums[(i - 1) % sums.size()] += terms[i - 1];
    }
    return sums;
  }

  Fault fault_;
};

}  // namespace

std::unique_ptr<parallel::Communicator> break_communicator(parallel::Communicator& inner,
                                                           Fault fault) {
  return std::make_unique<BrokenCommunicator>(inner, nullptr, fault);
}

}  // namespace fathom::testing
