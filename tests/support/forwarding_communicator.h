#pragma once

#include <memory>
#include <string>
#include <utility>

#include "parallel/comm/communicator.h"

namespace fathom::testing {

// Hands everything on to another communicator: for tests that change or watch some of it.
class ForwardingCommunicator : public parallel::Communicator {
 public:
  // `owned` is null, or `inner` itself.
  ForwardingCommunicator(parallel::Communicator& inner,
                         std::unique_ptr<parallel::Communicator> owned)
      : inner_(&inner), owned_(std::move(owned)) {}

  int rank() const noexcept override { return inner_->rank(); }
  int world_size() const noexcept override { return inner_->world_size(); }
  const std::string& name() const noexcept override { return inner_->name(); }
  parallel::Work all_reduce(Tensor& x, parallel::ReduceOp op, Stream& stream) override {
    return inner_->all_reduce(x, op, stream);
  }
  parallel::Work all_gather(const Tensor& shard, Tensor& full, Stream& stream) override {
    return inner_->all_gather(shard, full, stream);
  }
  parallel::Work reduce_scatter(const Tensor& full, Tensor& shard, Stream& stream) override {
    return inner_->reduce_scatter(full, shard, stream);
  }
  parallel::Work broadcast(Tensor& x, int root, Stream& stream) override {
    return inner_->broadcast(x, root, stream);
  }
  parallel::Work all_to_all(const Tensor& send, std::span<const std::int64_t> send_rows,
                            Tensor& recv, std::span<const std::int64_t> recv_rows,
                            Stream& stream) override {
    return inner_->all_to_all(send, send_rows, recv, recv_rows, stream);
  }
  parallel::Work send(const Tensor& x, int to, Stream& stream) override {
    return inner_->send(x, to, stream);
  }
  parallel::Work recv(Tensor& x, int from, Stream& stream) override {
    return inner_->recv(x, from, stream);
  }
  void connect(std::span<const int> peers) override { inner_->connect(peers); }
  void barrier() override { inner_->barrier(); }
  void all_gather_integers(std::span<const std::int64_t> mine,
                           std::span<std::int64_t> all) override {
    inner_->all_gather_integers(mine, all);
  }
  std::int64_t bytes_sent() const noexcept override { return inner_->bytes_sent(); }

 protected:
  parallel::Communicator& inner() noexcept { return *inner_; }

 private:
  parallel::Communicator* inner_;
  std::unique_ptr<parallel::Communicator> owned_;
};

}  // namespace fathom::testing
