#include "core/error.h"
#include "parallel/comm/nccl_communicator.h"

// In builds without NCCL.
namespace fathom::parallel {

std::unique_ptr<Communicator> make_nccl_world(Communicator& /*host_world*/, Device device,
                                              const CommOptions& /*options*/) {
  throw ConfigError(
      concat("ranks on ", device,
             " were to communicate by NCCL, which this build does not have: configure "
             "it with -DFATHOM_CUDA=ON"));
}

}  // namespace fathom::parallel
