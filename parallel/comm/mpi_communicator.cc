#include "parallel/comm/mpi_communicator.h"

#include <mpi.h>

#include <algorithm>
#include <numeric>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"
#include "parallel/comm/mpi_check.h"
#include "parallel/comm/staged_communicator.h"

namespace fathom::parallel {
namespace {

bool is_finalized() {
  int finalized = 0;
  MPI_Finalized(&finalized);
  return finalized != 0;
}

// Owns an MPI communicator.
class MpiGroup {
 public:
  explicit MpiGroup(MPI_Comm comm) : comm_(comm) {
    check_mpi(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  }
  ~MpiGroup() {
    if (!is_finalized()) {
      MPI_Comm_free(&comm_);
    }
  }
  MpiGroup(const MpiGroup&) = delete;
  MpiGroup& operator=(const MpiGroup&) = delete;
  MPI_Comm comm() const noexcept { return comm_; }

 private:
  MPI_Comm comm_;
};

class MpiTransfer final : public Transfer {
 public:
  MpiTransfer(std::shared_ptr<MpiGroup> group, std::span<const Message> sends,
              std::span<const Message> receives, int tag, std::int64_t max_message_bytes)
      : group_(std::move(group)), tag_(tag), max_message_bytes_(max_message_bytes) {
    // Receives first: what comes early finds its place instead of being buffered.
    for (const Message& message : receives) {
      add(message, true);
    }
    for (const Message& message : sends) {
      add(message, false);
    }
    statuses_.resize(requests_.size());
  }

  ~MpiTransfer() override {
    if (is_finalized()) {
      return;
    }
    for (std::size_t i = 0; i < requests_.size(); ++i) {
      if (requests_[i] != MPI_REQUEST_NULL) {
        if (parts_[i].is_receive) {
          MPI_Cancel(&requests_[i]);
        }
        MPI_Request_free(&requests_[i]);
      }
    }
  }
  MpiTransfer(const MpiTransfer&) = delete;
  MpiTransfer& operator=(const MpiTransfer&) = delete;

  bool is_done() override {
    int all_done = 0;
    const int error = MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &all_done,
                                  statuses_.data());
    if (error == MPI_ERR_IN_STATUS) {
      for (std::size_t i = 0; i < parts_.size(); ++i) {
        if (statuses_[i].MPI_ERROR != MPI_SUCCESS && statuses_[i].MPI_ERROR != MPI_ERR_PENDING) {
          fail(parts_[i], mpi_error_text(statuses_[i].MPI_ERROR));
        }
      }
    }
    check_mpi(error, "MPI_Testall");
    if (all_done != 0) {
      check_lengths();
    }
    return all_done != 0;
  }

  std::vector<int> missing_ranks() const override {
    std::vector<int> ranks;
    for (std::size_t i = 0; i < requests_.size(); ++i) {
      int is_complete = 0;
      MPI_Request_get_status(requests_[i], &is_complete, MPI_STATUS_IGNORE);
      if (is_complete == 0) {
        ranks.push_back(parts_[i].rank);
      }
    }
    std::sort(ranks.begin(), ranks.end());
    ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
    return ranks;
  }

 private:
  struct Part {
    int rank = 0;
    int bytes = 0;
    bool is_receive = false;
  };

  // MPI counts in int: a long message is cut into parts, which arrive in order.
  void add(const Message& message, bool is_receive) {
    for (std::int64_t begin = 0; begin < message.bytes; begin += max_message_bytes_) {
      const int bytes = static_cast<int>(std::min(max_message_bytes_, message.bytes - begin));
      MPI_Request request = MPI_REQUEST_NULL;
      if (is_receive) {
        check_mpi(MPI_Irecv(message.data + begin, bytes, MPI_BYTE, message.rank, tag_,
                            group_->comm(), &request),
                  "MPI_Irecv");
      } else {
        check_mpi(MPI_Isend(message.data + begin, bytes, MPI_BYTE, message.rank, tag_,
                            group_->comm(), &request),
                  "MPI_Isend");
      }
      parts_.push_back({message.rank, bytes, is_receive});
      requests_.push_back(request);
    }
  }

  void check_lengths() const {
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      int bytes = parts_[i].bytes;
      if (parts_[i].is_receive) {
        MPI_Get_count(&statuses_[i], MPI_BYTE, &bytes);
      }
      if (bytes != parts_[i].bytes) {
        fail(parts_[i], concat("it sent ", bytes));
      }
    }
  }

  [[noreturn]] static void fail(const Part& part, std::string_view reason) {
    throw CommError(concat(part.is_receive ? "receiving " : "sending ", part.bytes,
                           part.is_receive ? " bytes from rank " : " bytes to rank ", part.rank,
                           ": ", reason));
  }

  std::shared_ptr<MpiGroup> group_;
  int tag_;
  std::int64_t max_message_bytes_;
  std::vector<Part> parts_;
  std::vector<MPI_Request> requests_;
  std::vector<MPI_Status> statuses_;
};

class MpiCommunicator final : public HostCommunicator {
 public:
  MpiCommunicator(int rank, std::vector<int> world_ranks, CommOptions options,
                  std::shared_ptr<MpiGroup> group)
      : MpiCommunicator("world", rank, std::move(world_ranks), make_inheritance(std::move(options)),
                        std::move(group)) {}
  MpiCommunicator(std::string name, int rank, std::vector<int> world_ranks, Inheritance inheritance,
                  std::shared_ptr<MpiGroup> group)
      : HostCommunicator(std::move(name), rank, std::move(world_ranks), std::move(inheritance)),
        group_(std::move(group)) {
    FATHOM_CHECK(this->inheritance().options.max_message_bytes <= std::int64_t{1} << 30,
                 this->inheritance().options.max_message_bytes, " bytes in a message of MPI");
  }

  std::unique_ptr<Communicator> group(std::span<const int> ranks,
                                      const std::string& group_name) override {
    const int place = rank_among(ranks, group_name);
    std::shared_ptr<MpiGroup> members;  // a group of one sends no messages
    if (ranks.size() > 1) {
      members = make_group(ranks);
    }
    return std::make_unique<MpiCommunicator>(group_name, place, world_ranks_of(ranks),
                                             inheritance(), std::move(members));
  }

 protected:
  std::unique_ptr<Transfer> start(std::span<const Message> sends, std::span<const Message> receives,
                                  int tag) override {
    return std::make_unique<MpiTransfer>(group_, sends, receives, tag,
                                         inheritance().options.max_message_bytes);
  }

 private:
  std::shared_ptr<MpiGroup> make_group(std::span<const int> ranks) const {
    MPI_Group all = MPI_GROUP_NULL;
    MPI_Group members = MPI_GROUP_NULL;
    MPI_Comm comm = MPI_COMM_NULL;
    check_mpi(MPI_Comm_group(group_->comm(), &all), "MPI_Comm_group");
    const int error = MPI_Group_incl(all, static_cast<int>(ranks.size()), ranks.data(), &members);
    MPI_Group_free(&all);
    check_mpi(error, "MPI_Group_incl");
    const int create_error = MPI_Comm_create_group(group_->comm(), members, 0, &comm);
    MPI_Group_free(&members);
    check_mpi(create_error, "MPI_Comm_create_group");
    return std::make_shared<MpiGroup>(comm);
  }

  std::shared_ptr<MpiGroup> group_;
};

void check_tags(MPI_Comm comm) {
  const int* largest = nullptr;
  int is_known = 0;
  check_mpi(MPI_Comm_get_attr(comm, MPI_TAG_UB, static_cast<void*>(&largest), &is_known),
            "MPI_Comm_get_attr");
  if (is_known != 0 && *largest < HostCommunicator::kMaxTag) {
    throw CommError(concat("this MPI takes message tags up to ", *largest, ", and up to ",
                           HostCommunicator::kMaxTag,
                           " are needed: choose another transport of it (Open MPI: --mca pml)"));
  }
}

}  // namespace

std::unique_ptr<Communicator> MpiEnvironment::make_world(CommOptions options) const {
  MPI_Comm comm = MPI_COMM_NULL;
  check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &comm), "MPI_Comm_dup");
  auto group = std::make_shared<MpiGroup>(comm);
  check_tags(comm);
  if (ranks_per_node_ > cores_per_node_) {
    options.spin_time = std::chrono::microseconds(0);
  }
  std::vector<int> world_ranks(static_cast<std::size_t>(world_size_));
  std::iota(world_ranks.begin(), world_ranks.end(), 0);
  return stage_device_tensors(std::make_unique<MpiCommunicator>(
      rank_, std::move(world_ranks), std::move(options), std::move(group)));
}

}  // namespace fathom::parallel
