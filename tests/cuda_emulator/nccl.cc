// Stand-in for NCCL: see include/nccl.h.

#include "nccl.h"

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/bfloat16.h"
#include "core/dtype.h"

namespace {

using Bytes = std::vector<std::byte>;

enum class Kind { kAllReduce, kAllGather, kReduceScatter, kBroadcast };

struct Call {
  Kind kind = Kind::kAllReduce;
  const void* from = nullptr;
  void* to = nullptr;
  std::size_t count = 0;
  ncclDataType_t type = ncclFloat32;
  ncclRedOp_t op = ncclSum;
  int root = 0;

  bool fits(const Call& other) const {
    return kind == other.kind && count == other.count && type == other.type && op == other.op &&
           root == other.root;
  }
};

struct Collective {
  std::map<int, Call> calls;  // by rank
  bool is_done = false;
};

struct Group {
  std::mutex mutex;
  int num_joined = 0;
  int num_left = 0;  // finalized or aborted
  std::condition_variable left;
  std::map<std::uint64_t, Collective> collectives;
  std::map<std::pair<int, int>, std::deque<Bytes>> messages;  // from, to
};

fathom::DType dtype_of(ncclDataType_t type) {
  switch (type) {
    case ncclBfloat16:
      return fathom::DType::kBFloat16;
    case ncclInt32:
      return fathom::DType::kInt32;
    case ncclInt64:
      return fathom::DType::kInt64;
    default:
      return fathom::DType::kFloat32;
  }
}

std::size_t bytes_of(std::size_t count, ncclDataType_t type) {
  return type == ncclInt8 ? count : count * static_cast<std::size_t>(size_of(dtype_of(type)));
}

Bytes copy_of(const void* from, std::size_t bytes) {
  const auto* begin = static_cast<const std::byte*>(from);
  return {begin, begin + bytes};
}

// sum[i] = sum[i] op term[i]. A maximum loses a NaN of the term.
template <class T>
void reduce_into(Bytes& sum, const Bytes& term, ncclRedOp_t op) {
  using Number = std::conditional_t<std::is_same_v<T, fathom::BFloat16>, float, T>;
  T* const sums = reinterpret_cast<T*>(sum.data());
  const T* const terms = reinterpret_cast<const T*>(term.data());
  for (std::size_t i = 0; i < sum.size() / sizeof(T); ++i) {
    const auto a = static_cast<Number>(sums[i]);
    const auto b = static_cast<Number>(terms[i]);
    sums[i] = static_cast<T>(op == ncclSum ? a + b : std::max(a, b));
  }
}

// What all ranks' inputs come to in an order that is not that of parallel/comm/rank_tree.h, as
// NCCL's need not be: from the last rank to the first, each sum rounded to the type.
Bytes reduced(const std::vector<Bytes>& inputs, const Call& call) {
  Bytes result = inputs.back();
  for (auto term = inputs.rbegin() + 1; term != inputs.rend(); ++term) {
    switch (call.type) {
      case ncclFloat32:
        reduce_into<float>(result, *term, call.op);
        break;
      case ncclBfloat16:
        reduce_into<fathom::BFloat16>(result, *term, call.op);
        break;
      default:
        reduce_into<std::int64_t>(result, *term, call.op);
    }
  }
  return result;
}

void carry_out(const Collective& collective) {
  const fathom::emulator::MemoryAccess access;
  const Call& first = collective.calls.at(0);
  const std::size_t bytes = bytes_of(first.count, first.type);
  const bool is_scattered = first.kind == Kind::kReduceScatter;
  std::vector<Bytes> inputs;
  for (const auto& [rank, call] : collective.calls) {
    inputs.push_back(copy_of(call.from, is_scattered ? bytes * collective.calls.size() : bytes));
  }
  Bytes all;
  if (first.kind == Kind::kAllGather) {
    for (const Bytes& input : inputs) {
      all.insert(all.end(), input.begin(), input.end());
    }
  } else {
    all = first.kind == Kind::kBroadcast ? inputs[static_cast<std::size_t>(first.root)]
                                         : reduced(inputs, first);
  }
  for (const auto& [rank, call] : collective.calls) {
    const std::size_t begin = is_scattered ? static_cast<std::size_t>(rank) * bytes : 0;
    std::memcpy(call.to, all.data() + begin, is_scattered ? bytes : all.size());
  }
}

struct Receive {
  void* to = nullptr;
  std::size_t bytes = 0;
  int peer = 0;
};

void leave(Group& group) {
  const std::lock_guard lock(group.mutex);
  ++group.num_left;
  group.left.notify_all();
}

// The groups of the process by the number in their id.
std::shared_ptr<Group> group_of(const ncclUniqueId& id) {
  static std::mutex mutex;
  static std::map<std::uint64_t, std::shared_ptr<Group>> groups;
  std::uint64_t number = 0;
  std::memcpy(&number, id.internal, sizeof(number));
  const std::lock_guard lock(mutex);
  auto& group = groups[number];
  if (group == nullptr) {
    group = std::make_shared<Group>();
  }
  return group;
}

}  // namespace

struct ncclComm {
  std::shared_ptr<Group> group;
  int rank = 0;
  int num_ranks = 0;
  std::uint64_t num_collectives = 0;
  std::deque<Receive> receives;  // under way
  bool is_under_way = true;      // nobody has seen yet that the last call is over
  ncclResult_t failure = ncclSuccess;
};

namespace {

// The communicators that the group of calls under way on this thread has used; none outside a
// group.
thread_local std::optional<std::vector<ncclComm_t>> group_of_calls;

// Whether the communicator takes a call: not while one before it is under way, but calls of a group
// are one.
bool begin_call(ncclComm_t comm) {
  const bool is_of_group =
      group_of_calls.has_value() &&
      std::find(group_of_calls->begin(), group_of_calls->end(), comm) != group_of_calls->end();
  if (comm->is_under_way && !is_of_group) {
    return false;
  }
  comm->is_under_way = true;
  if (group_of_calls.has_value()) {
    group_of_calls->push_back(comm);
  }
  return true;
}

ncclResult_t add(ncclComm_t comm, const Call& call) {
  if (!begin_call(comm)) {
    return ncclInvalidArgument;
  }
  Group& group = *comm->group;
  const std::lock_guard lock(group.mutex);
  Collective& collective = group.collectives[comm->num_collectives++];
  collective.calls.emplace(comm->rank, call);
  if (!call.fits(collective.calls.begin()->second) ||
      !call.fits(collective.calls.rbegin()->second)) {
    comm->failure = ncclInvalidUsage;
  } else if (static_cast<int>(collective.calls.size()) == comm->num_ranks) {
    carry_out(collective);
    collective.is_done = true;
  }
  return ncclInProgress;
}

// Takes in order what has arrived; true when nothing is left to come.
bool receive_all(ncclComm_t comm) {
  const fathom::emulator::MemoryAccess access;
  std::erase_if(comm->receives, [&](const Receive& receive) {
    auto& queue = comm->group->messages[{receive.peer, comm->rank}];
    if (queue.empty()) {
      return false;
    }
    if (queue.front().size() != receive.bytes) {
      comm->failure = ncclInvalidUsage;
      return false;
    }
    std::memcpy(receive.to, queue.front().data(), receive.bytes);
    queue.pop_front();
    return true;
  });
  return comm->receives.empty();
}

}  // namespace

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  static std::mutex mutex;
  static std::uint64_t num_ids = 0;
  const std::lock_guard lock(mutex);
  *id = {};
  ++num_ids;
  std::memcpy(id->internal, &num_ids, sizeof(num_ids));
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int num_ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  if (config->blocking != 0) {
    return ncclInvalidUsage;
  }
  *comm = new ncclComm;
  (*comm)->group = group_of(id);
  (*comm)->rank = rank;
  (*comm)->num_ranks = num_ranks;
  const std::lock_guard lock((*comm)->group->mutex);
  ++(*comm)->group->num_joined;
  return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* state) {
  Group& group = *comm->group;
  const std::lock_guard lock(group.mutex);
  const bool is_done =
      group.num_joined == comm->num_ranks &&
      (comm->num_collectives == 0 || group.collectives[comm->num_collectives - 1].is_done) &&
      receive_all(comm);
  *state = comm->failure != ncclSuccess ? comm->failure : is_done ? ncclSuccess : ncclInProgress;
  comm->is_under_way = comm->is_under_way && !is_done;
  return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  if (!begin_call(comm)) {
    return ncclInvalidArgument;
  }
  leave(*comm->group);
  return ncclSuccess;
}
// Waits for the other ranks as NCCL does on one node, where the proxy thread of each ends when all
// that are connected to it have left.
ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  {
    Group& group = *comm->group;
    std::unique_lock lock(group.mutex);
    group.left.wait(lock, [&] { return group.num_left >= comm->num_ranks; });
  }
  delete comm;
  return ncclSuccess;
}
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  leave(*comm->group);
  delete comm;
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) {
  return result == ncclInvalidUsage ? "invalid usage" : "an error of the stand-in";
}
const char* ncclGetLastError(ncclComm_t /*comm*/) { return "no more is known"; }

ncclResult_t ncclAllReduce(const void* from, void* to, std::size_t count, ncclDataType_t type,
                           ncclRedOp_t op, ncclComm_t comm, cudaStream_t /*stream*/) {
  return add(comm, {Kind::kAllReduce, from, to, count, type, op, 0});
}
ncclResult_t ncclAllGather(const void* from, void* to, std::size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t /*stream*/) {
  return add(comm, {Kind::kAllGather, from, to, count, type, ncclSum, 0});
}
ncclResult_t ncclReduceScatter(const void* from, void* to, std::size_t count, ncclDataType_t type,
                               ncclRedOp_t op, ncclComm_t comm, cudaStream_t /*stream*/) {
  return add(comm, {Kind::kReduceScatter, from, to, count, type, op, 0});
}
ncclResult_t ncclBroadcast(const void* from, void* to, std::size_t count, ncclDataType_t type,
                           int root, ncclComm_t comm, cudaStream_t /*stream*/) {
  return add(comm, {Kind::kBroadcast, from, to, count, type, ncclSum, root});
}

ncclResult_t ncclSend(const void* from, std::size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t /*stream*/) {
  if (!begin_call(comm)) {
    return ncclInvalidArgument;
  }
  const fathom::emulator::MemoryAccess access;
  Bytes bytes = copy_of(from, bytes_of(count, type));
  const std::lock_guard lock(comm->group->mutex);
  comm->group->messages[{comm->rank, peer}].push_back(std::move(bytes));
  return ncclSuccess;
}
ncclResult_t ncclRecv(void* to, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t /*stream*/) {
  if (!begin_call(comm)) {
    return ncclInvalidArgument;
  }
  comm->receives.push_back({to, bytes_of(count, type), peer});
  return ncclInProgress;
}
ncclResult_t ncclGroupStart() {
  group_of_calls.emplace();
  return ncclSuccess;
}
ncclResult_t ncclGroupEnd() {
  group_of_calls.reset();
  return ncclSuccess;
}
