#include "parallel/expert_parallel.h"

#include <algorithm>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/run_ranks.h"

using namespace fathom;
using namespace fathom::parallel;

namespace {

constexpr std::int64_t kTokens = 6;  // of a rank
constexpr int kTopK = 2;
constexpr int kExperts = 4;

// Two ascending experts of every token; expert 3 is favoured, 1 is seldom chosen.
std::vector<std::int32_t> experts_of(int rank) {
  std::vector<std::int32_t> ids;
  for (int token = 0; token < kTokens; ++token) {
    const int first = (token * token + rank) % 3;
    ids.insert(ids.end(), {first, token == rank + 1 && first == 0 ? 1 : 3});
  }
  return ids;
}

struct Slot {
  int expert;
  int rank;
  int token;
  int choice;
};

// The slots of `num_ranks` ranks that experts [first, last) get, in the order of one rank that has
// all tokens: by expert, then rank, token, choice.
std::vector<Slot> slots_of(int num_ranks, int first, int last) {
  std::vector<Slot> slots;
  for (int expert = first; expert < last; ++expert) {
    for (int rank = 0; rank < num_ranks; ++rank) {
      const std::vector<std::int32_t> ids = experts_of(rank);
      for (auto slot = std::ranges::find(ids, expert); slot != ids.end();
           slot = std::find(slot + 1, ids.end(), expert)) {
        const auto number = static_cast<int>(slot - ids.begin());
        slots.push_back({expert, rank, number / kTopK, number % kTopK});
      }
    }
  }
  return slots;
}

float value_of(const Slot& slot) {
  return static_cast<float>(100 * slot.rank + 10 * slot.token + slot.choice);
}

// What a rank's experts were given, and what came home of it.
struct Found {
  std::vector<std::int64_t> offsets, part_offsets;
  std::vector<float> at_experts, at_home, sent;
};

Found find(Communicator& expert, std::int64_t unit_tokens, Stream& stream) {
  Tensor ids = Tensor::empty(Shape{kTokens, kTopK}, DType::kInt32, stream);
  std::ranges::copy(experts_of(expert.rank()), ids.mutable_values<std::int32_t>().begin());
  const ExpertRoute route =
      plan_expert_route(ids, {.num_experts = kExperts, .unit_tokens = unit_tokens}, expert, stream);
  Tensor home = Tensor::empty(Shape{kTokens * kTopK, 1}, DType::kFloat32, stream);
  for (std::int64_t row = 0; row < home.numel(); ++row) {
    const int slot = route.slot_of_row.data<std::int32_t>()[row];
    home.mutable_values<float>()[static_cast<std::size_t>(row)] =
        value_of({0, expert.rank(), slot / kTopK, slot % kTopK});
  }
  const Tensor there =
      rows_by_expert(route, send_to_experts(route, home, expert, stream).wait(), stream);
  const Tensor back =
      return_from_experts(route, rows_by_arrival(route, there, stream), expert, stream).wait();
  const auto floats = [](const Tensor& x) {
    return std::vector<float>(x.values<float>().begin(), x.values<float>().end());
  };
  const auto integers = [](const Tensor& x) {
    return std::vector<std::int64_t>(x.values<std::int64_t>().begin(),
                                     x.values<std::int64_t>().end());
  };
  return {integers(route.offsets), integers(route.part_offsets), floats(there), floats(back),
          floats(home)};
}

// Rows before each part of the experts' slots: parts by (expert, rank, unit), or (expert).
std::vector<std::int64_t> parts_of(const std::vector<Slot>& slots, int first, int last,
                                   int num_ranks, std::int64_t unit_tokens) {
  std::vector<std::int64_t> starts{0};
  const auto count = [&](const auto& belongs) {
    starts.push_back(starts.back() + std::ranges::count_if(slots, belongs));
  };
  for (int expert = first; expert < last; ++expert) {
    if (unit_tokens == 0) {
      count([&](const Slot& slot) { return slot.expert == expert; });
      continue;
    }
    for (int rank = 0; rank < num_ranks; ++rank) {
      for (std::int64_t unit = 0; unit < kTokens / unit_tokens; ++unit) {
        count([&](const Slot& slot) {
          return slot.expert == expert && slot.rank == rank && slot.token / unit_tokens == unit;
        });
      }
    }
  }
  return starts;
}

}  // namespace

TEST_CASE("Rows go to their experts in the order of one rank, and come back") {
  const int num_ranks = GENERATE(1, 2, 4);
  const std::int64_t unit_tokens = GENERATE(0, 1, 2, 6);
  std::vector<Found> found(static_cast<std::size_t>(num_ranks));
  test::run_ranks(num_ranks, [&](Communicator& world, Stream& stream) {
    found[static_cast<std::size_t>(world.rank())] = find(world, unit_tokens, stream);
  });
  const int width = kExperts / num_ranks;
  for (int rank = 0; rank < num_ranks; ++rank) {
    const Found& of_rank = found[static_cast<std::size_t>(rank)];
    const int first = rank * width;
    const std::vector<Slot> slots = slots_of(num_ranks, first, first + width);
    std::vector<float> values;
    std::ranges::transform(slots, std::back_inserter(values), value_of);
    CHECK(of_rank.at_experts == values);
    CHECK(of_rank.at_home == of_rank.sent);
    CHECK(of_rank.offsets == parts_of(slots, first, first + width, num_ranks, 0));
    CHECK(of_rank.part_offsets == parts_of(slots, first, first + width, num_ranks, unit_tokens));
  }
}

TEST_CASE("Tokens that are not whole units are refused") {
  Stream stream;
  auto world = make_thread_world(1, {});
  const Tensor ids = Tensor::zeros(Shape{kTokens, kTopK}, DType::kInt32, stream);
  CHECK_THROWS_AS(
      plan_expert_route(ids, {.num_experts = kExperts, .unit_tokens = 4}, *world[0], stream),
      InternalError);
}
