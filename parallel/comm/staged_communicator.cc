#include "parallel/comm/staged_communicator.h"

#include <optional>
#include <string>
#include <utility>

#include "core/error.h"
#include "core/host_copy.h"

namespace fathom::parallel {
namespace {

bool is_on_device(const Tensor& x) {
  return x.device().type != DeviceType::kCpu && x.device().type != DeviceType::kMeta;
}

std::span<std::byte> bytes_of(const Tensor& on_host) {
  return {on_host.raw(), static_cast<std::size_t>(on_host.size_bytes())};
}

// What a group of one does instead of communicating.
Work copy_on_device(const Tensor& from, const Tensor& to, Stream& stream) {
  FATHOM_CHECK(from.dtype() == to.dtype() && from.numel() == to.numel(), from.dtype(), ' ',
               from.shape(), " to ", to.dtype(), ' ', to.shape());
  if (from.raw() != to.raw() && from.size_bytes() > 0) {
    stream.queue()->copy(from.raw(), to.raw(), from.size_bytes());
  }
  return {};
}

class StagedCommunicator final : public Communicator {
 public:
  // Where tensors are staged: made for the first one, shared by the groups of a rank.
  using Staging = std::optional<Stream>;

  StagedCommunicator(std::unique_ptr<Communicator> host, std::shared_ptr<Staging> staging)
      : host_(std::move(host)), staging_(std::move(staging)) {}

  int rank() const noexcept override { return host_->rank(); }
  int world_size() const noexcept override { return host_->world_size(); }
  const std::string& name() const noexcept override { return host_->name(); }

  Work all_reduce(Tensor& x, ReduceOp op, Stream& stream) override {
    if (!is_on_device(x)) {
      return host_->all_reduce(x, op, stream);
    }
    if (world_size() == 1) {
      return {};
    }
    Tensor staged = copy_out(x, stream);
    host_->all_reduce(staged, op, host_stream()).wait();
    copy_from_host(bytes_of(staged), x, stream);
    return {};
  }

  Work all_gather(const Tensor& shard, Tensor& full, Stream& stream) override {
    if (!is_on_device(shard)) {
      return host_->all_gather(shard, full, stream);
    }
    if (world_size() == 1) {
      return copy_on_device(shard, full, stream);
    }
    Tensor staged = empty_like(full);
    return copy_back(host_->all_gather(copy_out(shard, stream), staged, host_stream()), staged,
                     full, stream);
  }

  Work reduce_scatter(const Tensor& full, Tensor& shard, Stream& stream) override {
    if (!is_on_device(full)) {
      return host_->reduce_scatter(full, shard, stream);
    }
    if (world_size() == 1) {
      return copy_on_device(full, shard, stream);
    }
    Tensor staged = empty_like(shard);
    return copy_back(host_->reduce_scatter(copy_out(full, stream), staged, host_stream()), staged,
                     shard, stream);
  }

  Work broadcast(Tensor& x, int root, Stream& stream) override {
    if (!is_on_device(x)) {
      return host_->broadcast(x, root, stream);
    }
    if (world_size() == 1) {
      return {};
    }
    if (rank() == root) {
      Tensor staged = copy_out(x, stream);
      return host_->broadcast(staged, root, host_stream());
    }
    Tensor staged = empty_like(x);
    return copy_back(host_->broadcast(staged, root, host_stream()), staged, x, stream);
  }

  Work all_to_all(const Tensor& send, std::span<const std::int64_t> send_rows, Tensor& recv,
                  std::span<const std::int64_t> recv_rows, Stream& stream) override {
    if (!is_on_device(send)) {
      return host_->all_to_all(send, send_rows, recv, recv_rows, stream);
    }
    if (world_size() == 1) {
      return copy_on_device(send, recv, stream);
    }
    Tensor staged = empty_like(recv);
    return copy_back(
        host_->all_to_all(copy_out(send, stream), send_rows, staged, recv_rows, host_stream()),
        staged, recv, stream);
  }

  Work send(const Tensor& x, int to, Stream& stream) override {
    return is_on_device(x) ? host_->send(copy_out(x, stream), to, host_stream())
                           : host_->send(x, to, stream);
  }

  Work recv(Tensor& x, int from, Stream& stream) override {
    if (!is_on_device(x)) {
      return host_->recv(x, from, stream);
    }
    Tensor staged = empty_like(x);
    return copy_back(host_->recv(staged, from, host_stream()), staged, x, stream);
  }

  void connect(std::span<const int> peers) override { host_->connect(peers); }
  void barrier() override { host_->barrier(); }
  void all_gather_integers(std::span<const std::int64_t> mine,
                           std::span<std::int64_t> all) override {
    host_->all_gather_integers(mine, all);
  }

  std::unique_ptr<Communicator> group(std::span<const int> ranks,
                                      const std::string& group_name) override {
    return std::make_unique<StagedCommunicator>(host_->group(ranks, group_name), staging_);
  }

  std::int64_t bytes_sent() const noexcept override { return host_->bytes_sent(); }

 private:
  Stream& host_stream() {
    if (!staging_->has_value()) {
      staging_->emplace();
    }
    return **staging_;
  }

  Tensor empty_like(const Tensor& x) { return Tensor::empty(x.shape(), x.dtype(), host_stream()); }

  Tensor copy_out(const Tensor& x, Stream& stream) {
    Tensor staged = empty_like(x);
    copy_to_host(x, bytes_of(staged), stream);
    return staged;
  }

  static Work copy_back(Work work, Tensor staged, Tensor x, Stream& stream) {
    return Work([work = std::make_shared<Work>(std::move(work)), staged = std::move(staged),
                 x = std::move(x), &stream]() mutable {
      work->wait();
      copy_from_host(bytes_of(staged), x, stream);
    });
  }

  std::unique_ptr<Communicator> host_;
  std::shared_ptr<Staging> staging_;
};

}  // namespace

std::unique_ptr<Communicator> stage_device_tensors(std::unique_ptr<Communicator> host) {
  return std::make_unique<StagedCommunicator>(std::move(host),
                                              std::make_shared<StagedCommunicator::Staging>());
}

}  // namespace fathom::parallel
