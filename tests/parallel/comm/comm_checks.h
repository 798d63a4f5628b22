#pragma once

#include "core/stream.h"
#include "parallel/comm/communicator.h"

namespace fathom::test {

// What every communicator must do, whatever moves its bytes. Collective over `world`; each throws
// InternalError with the numbers when something differs from plain loops over what the ranks are
// known to give.
void check_all_reduce(parallel::Communicator& world, Stream& stream);
// A maximum with a NaN on any rank is NaN.
void check_maximum_with_nan(parallel::Communicator& world, Stream& stream);
void check_all_gather(parallel::Communicator& world, Stream& stream);
void check_reduce_scatter(parallel::Communicator& world, Stream& stream);
void check_broadcast(parallel::Communicator& world, Stream& stream);
void check_all_to_all(parallel::Communicator& world, Stream& stream);
void check_send_and_recv(parallel::Communicator& world, Stream& stream);
void check_works_under_way_together(parallel::Communicator& world, Stream& stream);
void check_integers(parallel::Communicator& world);
void check_groups(parallel::Communicator& world, Stream& stream);

void check_all_collectives(parallel::Communicator& world, Stream& stream);
// The same of a transport that adds up in an order of its own: sums are checked where two ranks
// have but one order, and a maximum may lose a NaN.
void check_collectives_in_any_order(parallel::Communicator& world, Stream& stream);

}  // namespace fathom::test
