#pragma once

#include <nccl.h>

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/stream.h"
#include "parallel/comm/host_communicator.h"
#include "parallel/comm/operation_monitor.h"

// Only for nccl_*.cc.
namespace fathom::parallel {

// What the communicators of a rank share; outlives their channels.
struct NcclRank {
  NcclRank(int device_index, const CommOptions& comm_options)
      : device(device_index),
        options(comm_options),
        // In one group: each abort would else wait for kernels of channels that are yet to be told.
        monitor({.deadline = options.deadline,
                 .heartbeat = options.heartbeat,
                 .before_aborts = [] { ncclGroupStart(); },
                 .after_aborts = [] { ncclGroupEnd(); }}) {}
  int device;
  CommOptions options;
  OperationMonitor monitor;
  // How long an abort waits for the rank's own thread to leave a call to the device.
  std::chrono::milliseconds abort_time{std::chrono::seconds(30)};
};

// Throws CommError with NCCL's words unless the call was taken: it may still be under way.
void check_nccl(ncclResult_t result, const char* call);

ncclDataType_t nccl_type(DType dtype);

// Calls of this thread that NCCL takes as one, up to end(). One that throws in between ends them as
// well: what a thread calls with a group open would never begin.
class NcclGroup {
 public:
  NcclGroup() { check_nccl(ncclGroupStart(), "ncclGroupStart"); }
  ~NcclGroup() {
    if (is_open_) {
      ncclGroupEnd();
    }
  }
  NcclGroup(const NcclGroup&) = delete;
  NcclGroup& operator=(const NcclGroup&) = delete;
  void end() {
    is_open_ = false;
    check_nccl(ncclGroupEnd(), "ncclGroupEnd");
  }

 private:
  bool is_open_ = true;
};

// CUDA events, used again and again.
class EventPool {
 public:
  EventPool() = default;
  ~EventPool();
  EventPool(const EventPool&) = delete;
  EventPool& operator=(const EventPool&) = delete;
  cudaEvent_t take();
  void give_back(cudaEvent_t event) noexcept;

 private:
  std::mutex mutex_;
  std::vector<cudaEvent_t> events_;
};

// One operation, from the events around it on a channel's stream.
class NcclOperation final : public DeviceOperation {
 public:
  NcclOperation(int device, std::shared_ptr<EventPool> events);
  ~NcclOperation() override;
  NcclOperation(const NcclOperation&) = delete;
  NcclOperation& operator=(const NcclOperation&) = delete;
  cudaEvent_t begun() const noexcept { return begun_; }
  cudaEvent_t ended() const noexcept { return ended_; }
  bool has_begun() override;
  bool has_ended() override;

 private:
  bool is_past(cudaEvent_t event) const;

  int device_;
  std::shared_ptr<EventPool> events_;
  cudaEvent_t begun_ = nullptr;
  cudaEvent_t ended_ = nullptr;
};

enum class ChannelUse {
  kCollectives,  // and exchanges between all ranks
  // Messages from one rank to another, which may wait for a long time: as seen by each of the two.
  kSends,
  kReceives,
};

// A communicator of NCCL, non-blocking, with a CUDA stream on which its operations follow each
// other.
class NcclChannel final : public DeviceTransport {
 public:
  // Collective: all ranks of the channel with the same id. Waits for them, up to the deadline.
  // `group`: for messages. Throws CommError.
  static std::shared_ptr<NcclChannel> make(const ncclUniqueId& id, ChannelUse use,
                                           OperationName group, NcclRank& owner);
  ~NcclChannel() override;
  NcclChannel(const NcclChannel&) = delete;
  NcclChannel& operator=(const NcclChannel&) = delete;

  // One operation: gives to NCCL and to the channel's stream what the steps say, one behind the
  // other, behind what has been given to the channel and to `compute` so far.
  using Step = std::function<void(ncclComm_t comm, cudaStream_t stream)>;
  using Steps = std::vector<Step>;
  std::shared_ptr<NcclOperation> start(const char* operation, Stream& compute, const Steps& steps);

  // Ends the channel in good order, which on one node waits for its other ranks to leave it: all
  // ranks leave their channels in one order. By the rank's own thread, and not by the destructor,
  // which the monitor's may run. A channel that is not left is given up when it is destroyed.
  void leave() noexcept;

  std::string error() override;
  // Where the rank's own thread is in a call to the device that does not return, one that waits for
  // room in a queue that waits for other ranks, nothing can be given up: it says so and ends the
  // process with the exit code of a hang.
  void abort() noexcept override;

 private:
  NcclChannel(OperationName group, NcclRank& owner);
  void connect(const ncclUniqueId& id, ChannelUse use);
  void pass_first_message(ChannelUse use);
  void issue_between_events(NcclOperation& operation, Stream& compute, const Steps& steps);
  // Returns when the last call is no longer under way.
  void settle(const char* call);
  // Throws CommError at the deadline and when the rank's communications have failed.
  void wait_until(const std::function<bool()>& is_done);
  // What was caught says what failed: a CommError that says where, and the end of all channels.
  [[noreturn]] void fail(const std::string& reason);

  NcclRank& owner_;
  OperationName name_;  // of what was started last
  const char* heartbeat_group_ = "";
  std::shared_ptr<EventPool> events_ = std::make_shared<EventPool>();
  cudaEvent_t compute_ready_ = nullptr;
  cudaStream_t stream_ = nullptr;
  std::timed_mutex mutex_;  // over comm_: the monitor's thread aborts it
  ncclComm_t comm_ = nullptr;
};

// The stream that waits for an operation does so from here on.
void wait_on_stream(const NcclOperation& operation, Stream& compute);

}  // namespace fathom::parallel
