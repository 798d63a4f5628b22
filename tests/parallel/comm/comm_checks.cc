#include "tests/parallel/comm/comm_checks.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

#include "core/bfloat16.h"
#include "core/error.h"
#include "core/host_copy.h"

namespace fathom::test {
namespace {

using parallel::Communicator;
using parallel::ReduceOp;
using parallel::Work;

// What rank `rank` gives as element i: of many magnitudes, so that the order of additions shows.
template <class T>
T value(int rank, std::int64_t i) {
  std::uint64_t x = static_cast<std::uint64_t>(i) * 0x9e3779b97f4a7c15U +
                    static_cast<std::uint64_t>(rank + 1) * 0xbf58476d1ce4e5b9U;
  x ^= x >> 29;
  x *= 0x94d049bb133111ebU;
  x ^= x >> 32;
  if constexpr (std::is_same_v<T, BFloat16>) {
    return BFloat16(value<float>(rank, i));
  } else if constexpr (std::is_same_v<T, float>) {
    const float fraction = static_cast<float>(x % 20001) / 10000.0F - 1.0F;
    return std::ldexp(fraction, static_cast<int>(x >> 40) % 12);
  } else {
    return static_cast<T>(x >> 34) - (T{1} << 29);
  }
}

template <class T>
void give(int rank, Tensor& x, Stream& stream) {
  std::vector<T> values;
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    values.push_back(value<T>(rank, i));
  }
  from_host<T>(values, x, stream);
}

template <class T>
Tensor given(int rank, Shape shape, Stream& stream) {
  Tensor x = Tensor::empty(shape, kDTypeOf<T>, stream);
  give<T>(rank, x, stream);
  return x;
}

// Element i of x, wherever it lies.
template <class T>
T element(const Tensor& x, std::int64_t i, Stream& stream) {
  return to_host<T>(x.view_elements(i, Shape{1}), stream)[0];
}

// Level by level: neighbours first, one without a neighbour waits.
template <class T>
T tree(std::vector<T> terms, ReduceOp op) {
  while (terms.size() > 1) {
    std::vector<T> next;
    for (std::size_t i = 0; i + 1 < terms.size(); i += 2) {
      next.push_back(op == ReduceOp::kSum ? terms[i] + terms[i + 1]
                                          : std::max(terms[i], terms[i + 1]));
    }
    if (terms.size() % 2 == 1) {
      next.push_back(terms.back());
    }
    terms = next;
  }
  return terms[0];
}

// bfloat16 is added up in float32 and rounded once.
template <class T>
T reduced(int num_ranks, std::int64_t i, ReduceOp op) {
  std::vector<std::conditional_t<std::is_same_v<T, BFloat16>, float, T>> terms;
  for (int rank = 0; rank < num_ranks; ++rank) {
    terms.emplace_back(value<T>(rank, i));
  }
  return T(tree(terms, op));
}

template <class T>
void check_equal(T got, T want, const char* operation, const Communicator& world, std::int64_t i) {
  using Shown = std::conditional_t<std::is_same_v<T, BFloat16>, float, T>;
  FATHOM_CHECK(got == want, operation, " on rank ", world.rank(), " of ", world.world_size(),
               ", element ", i, ": ", static_cast<Shown>(got), ", want ", static_cast<Shown>(want));
}

void check_traffic(const Communicator& world, std::int64_t before, std::int64_t want,
                   const char* operation) {
  check_equal(world.bytes_sent() - before, want, operation, world, -1);
}

template <class T>
void check_all_reduce_of(Communicator& world, std::int64_t count, ReduceOp op, Stream& stream) {
  const int size = world.world_size();
  Tensor x = given<T>(world.rank(), Shape{count}, stream);
  const std::int64_t before = world.bytes_sent();
  world.all_reduce(x, op, stream).wait();
  const std::vector<T> got = to_host<T>(x, stream);
  for (std::int64_t i = 0; i < count; ++i) {
    check_equal(got[static_cast<std::size_t>(i)], reduced<T>(size, i, op), "all_reduce", world, i);
  }
  std::int64_t bytes = (size - 1) * x.size_bytes();
  if (x.size_bytes() > 65536) {
    const std::int64_t own = count * (world.rank() + 1) / size - count * world.rank() / size;
    bytes = static_cast<std::int64_t>(sizeof(T)) * (count - own + (size - 1) * own);
  }
  check_traffic(world, before, bytes, "traffic of all_reduce");
}

template <class T>
void check_reduce_scatter_of(Communicator& world, std::int64_t rows, Stream& stream) {
  const int size = world.world_size();
  Tensor full = given<T>(world.rank(), Shape{size * rows, 3}, stream);
  Tensor shard = Tensor::zeros(Shape{rows, 3}, kDTypeOf<T>, stream);
  const std::int64_t before = world.bytes_sent();
  world.reduce_scatter(full, shard, stream).wait();
  check_traffic(world, before, (size - 1) * shard.size_bytes(), "traffic of reduce_scatter");
  const std::vector<T> got = to_host<T>(shard, stream);
  const std::vector<T> given_values = to_host<T>(full, stream);
  // In place: the shard is the rows of `full` that it replaces.
  Tensor own = full.narrow(world.rank() * rows, (world.rank() + 1) * rows);
  world.reduce_scatter(full, own, stream).wait();
  const std::vector<T> got_in_place = to_host<T>(own, stream);
  for (std::int64_t i = 0; i < shard.numel(); ++i) {
    const auto index = static_cast<std::size_t>(i);
    const T want = reduced<T>(size, world.rank() * rows * 3 + i, ReduceOp::kSum);
    check_equal(got[index], want, "reduce_scatter", world, i);
    check_equal(got_in_place[index], want, "reduce_scatter in place", world, i);
    check_equal(given_values[index], value<T>(world.rank(), i), "input of reduce_scatter", world,
                i);
  }
}

std::int64_t rows_from_to(int from, int to) { return (from * 7 + to * 3) % 5; }

}  // namespace

void check_all_reduce(Communicator& world, Stream& stream) {
  for (const std::int64_t count : {0, 1, 3, 1001, 16384, 16385, 50003}) {
    check_all_reduce_of<float>(world, count, ReduceOp::kSum, stream);
    check_all_reduce_of<float>(world, count, ReduceOp::kMax, stream);
    check_all_reduce_of<BFloat16>(world, 2 * count, ReduceOp::kSum, stream);
    check_all_reduce_of<BFloat16>(world, count, ReduceOp::kMax, stream);
    check_all_reduce_of<std::int64_t>(world, count, ReduceOp::kSum, stream);
    check_all_reduce_of<std::int64_t>(world, count, ReduceOp::kMax, stream);
  }
}

void check_maximum_with_nan(Communicator& world, Stream& stream) {
  for (int bad_rank = 0; bad_rank < world.world_size(); ++bad_rank) {
    Tensor x = given<float>(world.rank(), Shape{1}, stream);
    if (world.rank() == bad_rank) {
      const float nan = std::numeric_limits<float>::quiet_NaN();
      from_host<float>({&nan, 1}, x, stream);
    }
    world.all_reduce(x, ReduceOp::kMax, stream).wait();
    FATHOM_CHECK(std::isnan(element<float>(x, 0, stream)), "the NaN of rank ", bad_rank,
                 " was lost");
  }
}

void check_all_gather(Communicator& world, Stream& stream) {
  const int size = world.world_size();
  for (const std::int64_t rows : {0, 1, 5, 9000}) {
    const Tensor shard = given<std::int32_t>(world.rank(), Shape{rows, 3}, stream);
    Tensor full = Tensor::zeros(Shape{size * rows, 3}, DType::kInt32, stream);
    const std::int64_t before = world.bytes_sent();
    world.all_gather(shard, full, stream).wait();
    const std::vector<std::int32_t> got = to_host<std::int32_t>(full, stream);
    for (std::int64_t i = 0; i < full.numel(); ++i) {
      check_equal(got[static_cast<std::size_t>(i)],
                  value<std::int32_t>(static_cast<int>(i / (rows * 3)), i % (rows * 3)),
                  "all_gather", world, i);
    }
    check_traffic(world, before, (size - 1) * rows * 12, "traffic of all_gather");
    // In place: the shard is a view of its own rows.
    Tensor whole = Tensor::zeros(full.shape(), DType::kInt32, stream);
    Tensor own = whole.narrow(world.rank() * rows, (world.rank() + 1) * rows);
    give<std::int32_t>(world.rank(), own, stream);
    world.all_gather(own, whole, stream).wait();
    const std::vector<std::int32_t> got_in_place = to_host<std::int32_t>(whole, stream);
    for (std::int64_t i = 0; i < full.numel(); ++i) {
      const auto index = static_cast<std::size_t>(i);
      check_equal(got_in_place[index], got[index], "all_gather in place", world, i);
    }
  }
}

void check_reduce_scatter(Communicator& world, Stream& stream) {
  for (const std::int64_t rows : {0, 1, 5, 9001}) {
    check_reduce_scatter_of<float>(world, rows, stream);
    check_reduce_scatter_of<BFloat16>(world, rows, stream);
    check_reduce_scatter_of<std::int64_t>(world, rows, stream);
  }
}

void check_broadcast(Communicator& world, Stream& stream) {
  for (int root = 0; root < world.world_size(); ++root) {
    for (const std::int64_t count : {0, 1, 30001}) {
      Tensor x = given<float>(world.rank(), Shape{count}, stream);
      const std::int64_t before = world.bytes_sent();
      world.broadcast(x, root, stream).wait();
      const std::vector<float> got = to_host<float>(x, stream);
      for (std::int64_t i = 0; i < count; ++i) {
        check_equal(got[static_cast<std::size_t>(i)], value<float>(root, i), "broadcast", world, i);
      }
      check_traffic(world, before, world.rank() == root ? (world.world_size() - 1) * count * 4 : 0,
                    "traffic of broadcast");
    }
  }
}

void check_all_to_all(Communicator& world, Stream& stream) {
  const int me = world.rank();
  for (const std::int64_t columns : {1, 7, 4096}) {
    std::vector<std::int64_t> send_rows, recv_rows;
    std::int64_t num_sent = 0, num_received = 0;
    for (int rank = 0; rank < world.world_size(); ++rank) {
      send_rows.push_back(rows_from_to(me, rank));
      recv_rows.push_back(rows_from_to(rank, me));
      num_sent += send_rows.back();
      num_received += recv_rows.back();
    }
    const Tensor leaving = given<float>(me, Shape{num_sent, columns}, stream);
    Tensor arrived = Tensor::zeros(Shape{num_received, columns}, DType::kFloat32, stream);
    const std::int64_t before = world.bytes_sent();
    world.all_to_all(leaving, send_rows, arrived, recv_rows, stream).wait();
    const std::vector<float> got = to_host<float>(arrived, stream);
    std::int64_t i = 0;
    for (int from = 0; from < world.world_size(); ++from) {
      std::int64_t first_row = 0;
      for (int to = 0; to < me; ++to) {
        first_row += rows_from_to(from, to);
      }
      for (std::int64_t k = 0; k < rows_from_to(from, me) * columns; ++k, ++i) {
        check_equal(got[static_cast<std::size_t>(i)], value<float>(from, first_row * columns + k),
                    "all_to_all", world, i);
      }
    }
    check_traffic(world, before, (num_sent - rows_from_to(me, me)) * columns * 4,
                  "traffic of all_to_all");
  }
}

void check_send_and_recv(Communicator& world, Stream& stream) {
  const int size = world.world_size();
  if (size == 1) {
    return;
  }
  const int next = (world.rank() + 1) % size;
  const int previous = (world.rank() + size - 1) % size;
  world.connect(std::vector<int>{next, previous});
  world.connect(std::vector<int>{previous});
  for (const std::int64_t count : {0, 1, 100003}) {
    // Everybody sends two messages before anybody receives.
    const Tensor first = given<float>(world.rank(), Shape{count}, stream);
    const Tensor second = given<float>(world.rank() + 100, Shape{count}, stream);
    const std::int64_t before = world.bytes_sent();
    std::vector<Work> sends;
    sends.push_back(world.send(first, next, stream));
    sends.push_back(world.send(second, next, stream));
    Tensor from_first = Tensor::zeros(Shape{count}, DType::kFloat32, stream);
    Tensor from_second = Tensor::zeros(Shape{count}, DType::kFloat32, stream);
    Work recv_first = world.recv(from_first, previous, stream);
    Work recv_second = world.recv(from_second, previous, stream);
    recv_second.wait();  // matched in the order of the calls, not of the waits
    recv_first.wait();
    const std::vector<float> got_first = to_host<float>(from_first, stream);
    const std::vector<float> got_second = to_host<float>(from_second, stream);
    for (std::int64_t i = 0; i < count; ++i) {
      const auto index = static_cast<std::size_t>(i);
      check_equal(got_first[index], value<float>(previous, i), "first recv", world, i);
      check_equal(got_second[index], value<float>(previous + 100, i), "second recv", world, i);
    }
    check_traffic(world, before, 2 * count * 4, "traffic of send");
    sends.clear();
    world.barrier();
  }
}

void check_works_under_way_together(Communicator& world, Stream& stream) {
  const int size = world.world_size();
  const Tensor shard = given<float>(world.rank(), Shape{20011}, stream);
  const Tensor whole = given<float>(world.rank(), Shape{size * 20011}, stream);
  Tensor gathered = Tensor::zeros(Shape{size * 20011}, DType::kFloat32, stream);
  Tensor sum = Tensor::zeros(Shape{20011}, DType::kFloat32, stream);
  Work gather = world.all_gather(shard, gathered, stream);
  Work scatter = world.reduce_scatter(whole, sum, stream);
  Tensor one = given<std::int64_t>(world.rank(), Shape{1}, stream);
  world.all_reduce(one, ReduceOp::kSum, stream).wait();
  check_equal(element<std::int64_t>(one, 0, stream), reduced<std::int64_t>(size, 0, ReduceOp::kSum),
              "all_reduce between", world, 0);
  // Each rank waits in another order.
  if (world.rank() % 2 == 0) {
    scatter.wait();
    gather.wait();
  } else {
    gather.wait();
    scatter.wait();
  }
  const std::vector<float> got_gathered = to_host<float>(gathered, stream);
  const std::vector<float> got_sum = to_host<float>(sum, stream);
  for (std::int64_t i = 0; i < 20011; ++i) {
    check_equal(got_gathered[static_cast<std::size_t>((size - 1) * 20011 + i)],
                value<float>(size - 1, i), "all_gather under way", world, i);
    check_equal(got_sum[static_cast<std::size_t>(i)],
                reduced<float>(size, world.rank() * 20011 + i, ReduceOp::kSum),
                "reduce_scatter under way", world, i);
  }
}

void check_integers(Communicator& world) {
  const int size = world.world_size();
  const std::int64_t before = world.bytes_sent();
  for (const std::int64_t count : {0, 1, 5}) {
    std::vector<std::int64_t> mine, all(static_cast<std::size_t>(size * count));
    for (std::int64_t i = 0; i < count; ++i) {
      mine.push_back(1000 * world.rank() + i);
    }
    world.all_gather_integers(mine, all);
    for (std::int64_t i = 0; i < size * count; ++i) {
      check_equal(all[static_cast<std::size_t>(i)], 1000 * (i / count) + i % count,
                  "all_gather_integers", world, i);
    }
  }
  check_traffic(world, before, 0, "traffic of integers");
}

void check_groups(Communicator& world, Stream& stream) {
  // The ranks of my parity, backwards; twice under one name; and myself alone.
  std::vector<int> ranks;
  for (int rank = world.world_size() - 1; rank >= 0; --rank) {
    if (rank % 2 == world.rank() % 2) {
      ranks.push_back(rank);
    }
  }
  const auto parity = world.group(ranks, "parity");
  const auto again = world.group(ranks, "parity");
  const std::vector<int> alone{world.rank()};
  const auto self = world.group(alone, "self");
  FATHOM_CHECK(parity->name() == "parity" && self->world_size() == 1, parity->name());
  check_equal<int>(ranks[static_cast<std::size_t>(parity->rank())], world.rank(), "place in group",
                   world, 0);
  check_all_collectives(*self, stream);
  // The two groups are independent: one may be under way in each.
  Tensor x = given<float>(world.rank(), Shape{7}, stream);
  Tensor y = given<float>(world.rank(), Shape{7}, stream);
  Work first = parity->broadcast(x, 0, stream);
  again->broadcast(y, again->world_size() - 1, stream).wait();
  first.wait();
  check_equal(element<float>(x, 6, stream), value<float>(ranks.front(), 6), "broadcast in group",
              world, 6);
  check_equal(element<float>(y, 6, stream), value<float>(ranks.back(), 6), "broadcast in group",
              world, 6);
  // A group of a group.
  if (parity->rank() < 2 && parity->world_size() >= 2) {
    const std::vector<int> pair{1, 0};
    const auto inner = parity->group(pair, "pair");
    Tensor z = given<float>(world.rank(), Shape{1}, stream);
    inner->all_reduce(z, ReduceOp::kSum, stream).wait();
    check_equal(element<float>(z, 0, stream), value<float>(ranks[0], 0) + value<float>(ranks[1], 0),
                "all_reduce in a group of a group", world, 0);
  }
}

void check_all_collectives(Communicator& world, Stream& stream) {
  check_all_reduce(world, stream);
  check_maximum_with_nan(world, stream);
  check_all_gather(world, stream);
  check_reduce_scatter(world, stream);
  check_broadcast(world, stream);
  check_all_to_all(world, stream);
  check_send_and_recv(world, stream);
  check_works_under_way_together(world, stream);
  check_integers(world);
  world.barrier();
}

void check_collectives_in_any_order(Communicator& world, Stream& stream) {
  if (world.world_size() <= 2) {
    check_all_reduce(world, stream);
    check_reduce_scatter(world, stream);
    check_works_under_way_together(world, stream);
  }
  check_all_gather(world, stream);
  check_broadcast(world, stream);
  check_all_to_all(world, stream);
  check_send_and_recv(world, stream);
  check_integers(world);
  world.barrier();
}

}  // namespace fathom::test
