#include "tests/support/recording_communicator.h"

#include <utility>

#include "tests/support/forwarding_communicator.h"

namespace fathom::testing {
namespace {

using parallel::Communicator;
using parallel::Work;

class RecordingCommunicator final : public ForwardingCommunicator {
 public:
  RecordingCommunicator(Communicator& recorded, std::unique_ptr<Communicator> owned,
                        CommunicationLog& log)
      : ForwardingCommunicator(recorded, std::move(owned)), log_(&log) {}

  Work all_reduce(Tensor& x, parallel::ReduceOp op, Stream& stream) override {
    begin("all_reduce", x);
    return record("all_reduce", x, inner().all_reduce(x, op, stream));
  }
  Work all_gather(const Tensor& shard, Tensor& full, Stream& stream) override {
    begin("all_gather", full);
    return record("all_gather", full, inner().all_gather(shard, full, stream));
  }
  Work reduce_scatter(const Tensor& full, Tensor& shard, Stream& stream) override {
    begin("reduce_scatter", full);
    return record("reduce_scatter", full, inner().reduce_scatter(full, shard, stream));
  }
  Work all_to_all(const Tensor& send, std::span<const std::int64_t> send_rows, Tensor& recv,
                  std::span<const std::int64_t> recv_rows, Stream& stream) override {
    const Tensor& larger = send.numel() > recv.numel() ? send : recv;
    begin("all_to_all", larger);
    return record("all_to_all", larger,
                  inner().all_to_all(send, send_rows, recv, recv_rows, stream));
  }
  std::unique_ptr<Communicator> group(std::span<const int> ranks,
                                      const std::string& group_name) override {
    auto made = inner().group(ranks, group_name);
    Communicator& reference = *made;
    return std::make_unique<RecordingCommunicator>(reference, std::move(made), *log_);
  }

 private:
  void begin(const char* operation, const Tensor& x) {
    if (world_size() > 1) {
      log_->push_back({name(), operation, x.numel(), false});
    }
  }
  Work record(const char* operation, const Tensor& x, Work work) {
    if (world_size() == 1) {
      return work;
    }
    return Work(
        [this, operation, numel = x.numel(), shared = std::make_shared<Work>(std::move(work))] {
          log_->push_back({name(), operation, numel, true});
          shared->wait();
        });
  }

  CommunicationLog* log_;
};

}  // namespace

std::unique_ptr<parallel::Communicator> record_communication(parallel::Communicator& inner,
                                                             CommunicationLog& log) {
  return std::make_unique<RecordingCommunicator>(inner, nullptr, log);
}

}  // namespace fathom::testing
