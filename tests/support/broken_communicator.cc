#include "tests/support/broken_communicator.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "core/error.h"

namespace fathom::testing {
namespace {

using parallel::Communicator;
using parallel::ReduceOp;
using parallel::Work;

class BrokenCommunicator final : public Communicator {
 public:
  BrokenCommunicator(Communicator& inner, std::unique_ptr<Communicator> owned, Fault fault)
      : inner_(&inner), owned_(std::move(owned)), fault_(fault) {}

  int rank() const noexcept override { return inner_->rank(); }
  int world_size() const noexcept override { return inner_->world_size(); }
  const std::string& name() const noexcept override { return inner_->name(); }

  Work all_reduce(Tensor& x, ReduceOp op, Stream& stream) override {
    if (is_reversed(x) && op == ReduceOp::kSum) {
      const Tensor sum = reversed_sum(x, stream);
      std::copy_n(sum.data<float>(), x.numel(), x.mutable_data<float>());
      return {};
    }
    return inner_->all_reduce(x, op, stream);
  }
  Work reduce_scatter(const Tensor& full, Tensor& shard, Stream& stream) override {
    if (is_reversed(full)) {
      const Tensor sum = reversed_sum(full, stream);
      std::copy_n(sum.data<float>() + rank() * shard.numel(), shard.numel(),
                  shard.mutable_data<float>());
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
    return inner_->reduce_scatter(full, shard, stream);
  }

  Work all_gather(const Tensor& shard, Tensor& full, Stream& stream) override {
    return inner_->all_gather(shard, full, stream);
  }
  Work broadcast(Tensor& x, int root, Stream& stream) override {
    return inner_->broadcast(x, root, stream);
  }
  Work all_to_all(const Tensor& send, std::span<const std::int64_t> send_rows, Tensor& recv,
                  std::span<const std::int64_t> recv_rows, Stream& stream) override {
    return inner_->all_to_all(send, send_rows, recv, recv_rows, stream);
  }
  Work send(const Tensor& x, int to, Stream& stream) override {
    return inner_->send(x, to, stream);
  }
  Work recv(Tensor& x, int from, Stream& stream) override { return inner_->recv(x, from, stream); }
  void connect(std::span<const int> peers) override { inner_->connect(peers); }
  void barrier() override { inner_->barrier(); }
  void exchange_integers(std::span<const std::int64_t> to_each,
                         std::span<std::int64_t> from_each) override {
    inner_->exchange_integers(to_each, from_each);
  }
  void all_gather_integers(std::span<const std::int64_t> mine,
                           std::span<std::int64_t> all) override {
    inner_->all_gather_integers(mine, all);
  }
  std::unique_ptr<Communicator> group(std::span<const int> ranks,
                                      const std::string& group_name) override {
    auto made = inner_->group(ranks, group_name);
    Communicator& reference = *made;
    return std::make_unique<BrokenCommunicator>(reference, std::move(made), fault_);
  }
  std::int64_t bytes_sent() const noexcept override { return inner_->bytes_sent(); }

 private:
  // Two ranks have only one order.
  bool is_reversed(const Tensor& x) const {
    return fault_ == Fault::kReversedSums && x.dtype() == DType::kFloat32 && world_size() > 2;
  }
  Tensor reversed_sum(const Tensor& x, Stream& stream) {
    const std::int64_t count = x.numel();
    Tensor all = Tensor::empty(Shape{world_size() * count}, DType::kFloat32, stream);
    inner_->all_gather(x.reshape(Shape{count}), all, stream).wait();
    Tensor sum = Tensor::zeros(Shape{count}, DType::kFloat32, stream);
    float* const sums = sum.mutable_data<float>();
    for (int rank = world_size() - 1; rank >= 0; --rank) {
      const float* const terms = all.data<float>() + rank * count;
      for (std::int64_t i = 0; i < count; ++i) {
        sums[i] += terms[i];
      }
    }
    return sum;
  }

  Communicator* inner_;
  std::unique_ptr<Communicator> owned_;
  Fault fault_;
};

}  // namespace

std::unique_ptr<parallel::Communicator> break_communicator(parallel::Communicator& inner,
                                                           Fault fault) {
  return std::make_unique<BrokenCommunicator>(inner, nullptr, fault);
}

}  // namespace fathom::testing
