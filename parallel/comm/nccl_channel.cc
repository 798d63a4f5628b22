#include "parallel/comm/nccl_channel.h"

#include <unistd.h>

#include <chrono>
#include <exception>
#include <iostream>
#include <thread>
#include <utility>

#include "core/cuda/check.h"
#include "core/error.h"
#include "parallel/comm/hang.h"

namespace fathom::parallel {
namespace {

// Most calls are over within microseconds; to sleep takes several times as long as it is asked to.
constexpr std::chrono::microseconds kYieldTime{200};
constexpr std::chrono::microseconds kPollTime{20};

// A message that waits for its sender holds its blocks' multiprocessors through whole computations.
constexpr int kMessageBlocks = 8;

cudaStream_t stream_of(Stream& stream) {
  return static_cast<cudaStream_t>(stream.queue()->native());
}

}  // namespace

void check_nccl(ncclResult_t result, const char* call) {
  if (result != ncclSuccess && result != ncclInProgress) {
    throw CommError(
        concat(call, ": ", ncclGetErrorString(result), ", ", ncclGetLastError(nullptr)));
  }
}

ncclDataType_t nccl_type(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return ncclFloat32;
    case DType::kBFloat16:
      return ncclBfloat16;
    case DType::kInt32:
      return ncclInt32;
    case DType::kInt64:
      return ncclInt64;
  }
  throw InternalError(concat("NCCL for ", dtype));
}

EventPool::~EventPool() {
  for (const cudaEvent_t event : events_) {
    cudaEventDestroy(event);
  }
}

cudaEvent_t EventPool::take() {
  const std::lock_guard lock(mutex_);
  cudaEvent_t event = nullptr;
  if (events_.empty()) {
    check_cuda(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreate");
    events_.reserve(events_.capacity() + 1);  // room for it to come back
  } else {
    event = events_.back();
    events_.pop_back();
  }
  return event;
}

void EventPool::give_back(cudaEvent_t event) noexcept {
  const std::lock_guard lock(mutex_);
  events_.push_back(event);
}

NcclOperation::NcclOperation(int device, std::shared_ptr<EventPool> events)
    : device_(device),
      events_(std::move(events)),
      begun_(events_->take()),
      ended_(events_->take()) {}

NcclOperation::~NcclOperation() {
  events_->give_back(begun_);
  events_->give_back(ended_);
}

bool NcclOperation::has_begun() { return is_past(begun_); }
bool NcclOperation::has_ended() { return is_past(ended_); }

bool NcclOperation::is_past(cudaEvent_t event) const {
  check_cuda(cudaSetDevice(device_), "cudaSetDevice");  // in the monitor's thread
  const cudaError_t status = cudaEventQuery(event);
  if (status != cudaErrorNotReady) {
    check_cuda(status, "cudaEventQuery of a communication");
  }
  return status == cudaSuccess;
}

void wait_on_stream(const NcclOperation& operation, Stream& compute) {
  check_cuda(cudaStreamWaitEvent(stream_of(compute), operation.ended(), 0),
             "cudaStreamWaitEvent for a communication");
}

std::shared_ptr<NcclChannel> NcclChannel::make(const ncclUniqueId& id, ChannelUse use,
                                               OperationName group, NcclRank& owner) {
  owner.monitor.check();
  const std::shared_ptr<NcclChannel> channel(new NcclChannel(std::move(group), owner));
  channel->connect(id, use);
  channel->owner_.monitor.add(channel);
  return channel;
}

NcclChannel::NcclChannel(OperationName group, NcclRank& owner)
    : owner_(owner), name_(std::move(group)) {
  if (Heartbeat* const heartbeat = owner_.options.heartbeat) {
    heartbeat_group_ = heartbeat->keep_name(name_.group);
  }
  check_cuda(cudaSetDevice(owner_.device), "cudaSetDevice");
  int least = 0;
  int greatest = 0;
  check_cuda(cudaDeviceGetStreamPriorityRange(&least, &greatest),
             "cudaDeviceGetStreamPriorityRange");
  // What others wait for goes before computations that become ready at the same time.
  check_cuda(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, greatest),
             "cudaStreamCreateWithPriority");
  check_cuda(cudaEventCreateWithFlags(&compute_ready_, cudaEventDisableTiming), "cudaEventCreate");
}

// With an exception on its way all is left to the end of the process: to give up one channel waits
// for the device, which may wait in another, and the rank would not come to say what has happened.
NcclChannel::~NcclChannel() {
  if (std::uncaught_exceptions() > 0) {
    return;
  }
  cudaSetDevice(owner_.device);
  abort();
  if (compute_ready_ != nullptr) {
    cudaEventDestroy(compute_ready_);
  }
  if (stream_ != nullptr) {
    cudaStreamDestroy(stream_);
  }
}

// Not when anything has failed: what left this rank may then never reach the others.
void NcclChannel::leave() noexcept {
  if (std::uncaught_exceptions() > 0) {
    return;
  }
  try {
    const std::lock_guard<std::timed_mutex> lock(mutex_);
    cudaSetDevice(owner_.device);
    if (comm_ != nullptr && !owner_.monitor.has_failed()) {
      name_.operation = "end";
      check_nccl(ncclCommFinalize(comm_), "ncclCommFinalize");
      settle("ncclCommFinalize");
      check_nccl(ncclCommDestroy(std::exchange(comm_, nullptr)), "ncclCommDestroy");
    }
  } catch (const std::exception& error) {
    std::cerr << concat("warning: ", to_string(name_), ": ", error.what(), '\n') << std::flush;
  }
}

void NcclChannel::connect(const ncclUniqueId& id, ChannelUse use) {
  const int size = name_.world_size;
  const int rank = name_.rank;
  name_.operation = "connect";
  try {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    if (use != ChannelUse::kCollectives) {
      config.maxCTAs = kMessageBlocks;
    }
    check_nccl(ncclCommInitRankConfig(&comm_, size, id, rank, &config), "ncclCommInitRankConfig");
    settle("ncclCommInitRankConfig");
    if (use != ChannelUse::kCollectives) {
      pass_first_message(use);
    }
  } catch (const CommError& error) {
    fail(error.message());
  }
}

// NCCL connects two ranks when one first sends to the other, which waits for both: here, where both
// are, and not in the middle of a schedule in which each waits for the other somewhere else. Only
// the way that is used: a connection takes memory of both.
void NcclChannel::pass_first_message(ChannelUse use) {
  const int peer = 1 - name_.rank;
  void* byte = nullptr;
  check_cuda(cudaMallocAsync(&byte, 1, stream_), "cudaMallocAsync");
  if (use == ChannelUse::kSends) {
    check_nccl(ncclSend(byte, 1, ncclInt8, peer, comm_, stream_), "ncclSend");
  } else {
    check_nccl(ncclRecv(byte, 1, ncclInt8, peer, comm_, stream_), "ncclRecv");
  }
  settle("the first message");
  check_cuda(cudaFreeAsync(byte, stream_), "cudaFreeAsync");
  wait_until([this] {
    const cudaError_t status = cudaStreamQuery(stream_);
    if (status != cudaErrorNotReady) {
      check_cuda(status, "cudaStreamQuery");
    }
    return status == cudaSuccess;
  });
}

std::shared_ptr<NcclOperation> NcclChannel::start(const char* operation, Stream& compute,
                                                  const Steps& steps) {
  owner_.monitor.check();
  check_cuda(cudaSetDevice(owner_.device), "cudaSetDevice");
  name_.operation = operation;
  auto started = std::make_shared<NcclOperation>(owner_.device, events_);
  try {
    const std::lock_guard<std::timed_mutex> lock(mutex_);
    if (comm_ == nullptr) {
      throw CommError("the channel was given up");
    }
    issue_between_events(*started, compute, steps);
  } catch (const CommError& error) {
    fail(error.message());
  }
  owner_.monitor.watch(started, name_);
  ++name_.number;
  return started;
}

void NcclChannel::issue_between_events(NcclOperation& operation, Stream& compute,
                                       const Steps& steps) {
  check_cuda(cudaEventRecord(compute_ready_, stream_of(compute)), "cudaEventRecord");
  check_cuda(cudaStreamWaitEvent(stream_, compute_ready_, 0), "cudaStreamWaitEvent");
  check_cuda(cudaEventRecord(operation.begun(), stream_), "cudaEventRecord");
  for (const Step& step : steps) {
    step(comm_, stream_);
    settle(name_.operation);  // only then is it on the stream
  }
  check_cuda(cudaEventRecord(operation.ended(), stream_), "cudaEventRecord");
}

void NcclChannel::settle(const char* call) {
  wait_until([&] {
    ncclResult_t state = ncclInProgress;
    check_nccl(ncclCommGetAsyncError(comm_, &state), "ncclCommGetAsyncError");
    if (state == ncclInProgress) {
      return false;
    }
    check_nccl(state, call);
    return true;
  });
}

void NcclChannel::wait_until(const std::function<bool()>& is_done) {
  using Clock = std::chrono::steady_clock;
  const CommOptions& options = owner_.options;
  const auto start_time = Clock::now();
  Heartbeat* const heartbeat = options.heartbeat;
  bool is_waiting = false;
  while (!is_done()) {
    if (owner_.monitor.has_failed() || (options.aborted != nullptr && options.aborted->load())) {
      throw CommError("was given up, because another rank or communication failed");
    }
    if (Clock::now() - start_time > options.deadline) {
      throw CommError(concat("did not begin within ",
                             static_cast<double>(options.deadline.count()) / 1000.0,
                             " s: some rank has not come to it, or the network between the ranks "
                             "does not let NCCL through (NCCL_DEBUG=INFO says more)"));
    }
    if (heartbeat != nullptr && !std::exchange(is_waiting, true)) {
      heartbeat->begin_wait(name_.operation, heartbeat_group_, name_.number);
    }
    if (Clock::now() - start_time < kYieldTime) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(kPollTime);
    }
  }
  if (is_waiting) {
    heartbeat->end_wait();
  }
}

void NcclChannel::fail(const std::string& reason) {
  const std::string message = concat(to_string(name_), ": ", reason);
  owner_.monitor.fail(message);
  abort();
  throw CommError(message);
}

std::string NcclChannel::error() {
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock() || comm_ == nullptr) {  // its own thread looks, or it is over
    return {};
  }
  ncclResult_t state = ncclSuccess;
  const ncclResult_t asked = ncclCommGetAsyncError(comm_, &state);
  const ncclResult_t result = asked != ncclSuccess ? asked : state;
  if (result == ncclSuccess || result == ncclInProgress) {
    return {};
  }
  return concat("NCCL reports for group ", name_.group, " on rank ", name_.rank, " of ",
                name_.world_size, ": ", ncclGetErrorString(result), ", ", ncclGetLastError(comm_));
}

void NcclChannel::abort() noexcept {
  const std::unique_lock lock(mutex_, owner_.abort_time);
  if (!lock.owns_lock()) {
    std::cerr << concat(
                     "error: group ", name_.group, " on rank ", name_.rank, " of ",
                     name_.world_size,
                     " cannot be given up: its thread does not return from a call to the device. "
                     "The rank ends here\n")
              << std::flush;
    _exit(kExitHang);
  }
  if (comm_ != nullptr) {
    cudaSetDevice(owner_.device);
    ncclCommAbort(std::exchange(comm_, nullptr));
  }
}

}  // namespace fathom::parallel
