#include "parallel/parameter_buffer.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <deque>
#include <string>
#include <vector>

#include "core/bfloat16.h"
#include "core/error.h"
#include "kernels/elementwise.h"
#include "parallel/comm/meta_communicator.h"
#include "parallel/parameter_groups.h"
#include "tests/support/catch.h"
#include "tests/support/recording_communicator.h"
#include "tests/support/run_ranks.h"

using namespace fathom;
using namespace fathom::parallel;
using fathom::testing::Communication;
using fathom::testing::CommunicationLog;

namespace {

// Addresses stay: a buffer keeps them.
struct Vectors {
  std::deque<Parameter> parameters;
  std::vector<Parameter*> pointers() {
    std::vector<Parameter*> all;
    for (Parameter& parameter : parameters) {
      all.push_back(&parameter);
    }
    return all;
  }
};

// a, b, c, ... of these lengths.
Vectors vectors(const std::vector<std::int64_t>& lengths, Communicator& replicas) {
  Vectors made;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    made.parameters.push_back(
        whole_parameter(std::string(1, static_cast<char>('a' + i)), Shape{lengths[i]}, replicas));
  }
  return made;
}

std::string names(const std::vector<std::vector<Parameter*>>& groups) {
  std::string text;
  for (const auto& group : groups) {
    text += text.empty() ? "" : " ";
    for (const Parameter* parameter : group) {
      text += parameter->name;
    }
  }
  return text;
}

void fill(Parameter& parameter, float value) {
  for (float& element : parameter.grad.sum.mutable_values<float>()) {
    element = value;
  }
  parameter.grad.is_empty = false;
}

constexpr std::int64_t kLength = 256;  // of a shard of two replicas 128: no padding

}  // namespace

TEST_CASE("Groups are neighbours with the same replicas, full from the end on") {
  test::run_ranks(1, [](Communicator& world, Stream&) {
    const std::array<int, 1> alone = {0};
    const auto other = world.group(alone, "other");
    Vectors made = vectors({10, 20, 5, 30, 40}, world);
    const auto cut = [&](std::int64_t least) {
      return names(cut_into_groups(made.pointers(), least));
    };
    const bool is_right = cut(1) == "a b c d e" && cut(35) == "ab cd e" && cut(70) == "abc de" &&
                          cut(71) == "ab cde" && cut(0) == "abcde" && cut(1000) == "abcde";
    FATHOM_CHECK(is_right, cut(35), ", ", cut(70), ", ", cut(71));
    // Two sets of replicas side by side; the first member says when the forward needs a group.
    made.parameters[1].replicas = other.get();
    made.parameters[3].replicas = other.get();
    FATHOM_CHECK(cut(0) == "ace bd" && cut(45) == "a bd ce" && cut(30) == "ac b d e", cut(30));
    FATHOM_CHECK(names(cut_into_groups({}, 0)).empty());
  });
}

TEST_CASE("The least size of a group grows with the ranks that share it") {
  // 40 million up to 40 replicas, then a million each. Parameters without values: no memory.
  const auto cut = [](int num_replicas) {
    const auto replicas = make_meta_world(0, num_replicas);
    Vectors made = vectors({20'000'000, 20'000'000, 20'000'000, 39'000'000}, *replicas);
    return names(cut_into_groups(made.pointers(), 0));
  };
  CHECK(cut(1) == "ab cd");
  CHECK(cut(40) == "ab cd");
  CHECK(cut(60) == "a bcd");
}

TEST_CASE("Reductions start when gradients are complete, in one order on all replicas") {
  std::array<CommunicationLog, 2> logs;
  test::run_ranks(2, [&](Communicator& real_world, Stream& stream) {
    CommunicationLog& log = logs[static_cast<std::size_t>(real_world.rank())];
    const auto world = testing::record_communication(real_world, log);
    Vectors made = vectors({kLength, 2 * kLength, 3 * kLength}, *world);
    Parameter& a = made.parameters[0];
    Parameter& b = made.parameters[1];
    Parameter& c = made.parameters[2];
    ParameterBuffer buffer(made.pointers(), {DType::kFloat32, {}, 1}, stream);
    FATHOM_CHECK(buffer.groups().size() == 3);
    for (int step = 0; step < 2; ++step) {
      log.clear();
      buffer.begin_gradients(stream);
      fill(a, 1.0F + static_cast<float>(world->rank()));
      fill(b, 10.0F);
      fill(c, static_cast<float>(step));
      // In another order on each rank.
      const std::array<Parameter*, 3> orders[2] = {{&b, &c, &a}, {&c, &a, &b}};
      const std::array<std::size_t, 3> num_started[2] = {{0, 2, 3}, {1, 1, 3}};
      for (std::size_t i = 0; i < 3; ++i) {
        buffer.gradient_complete(*orders[world->rank()][i], stream);
        FATHOM_CHECK(log.size() == num_started[world->rank()][i], i, ": ", log.size());
      }
      buffer.reduce_gradients(stream);
      const std::array<float, 3> want = {3.0F, 20.0F, 2.0F * static_cast<float>(step)};
      for (std::size_t i = 0; i < 3; ++i) {
        for (const float found : buffer.groups()[i].gradient_shard.values<float>()) {
          FATHOM_CHECK(found == want[i], i, ": ", found);
        }
      }
    }
  });
  REQUIRE(logs[0].size() == 6);
  CHECK(logs[0] == logs[1]);
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(logs[0][i] == Communication{"world", "reduce_scatter",
                                      (3 - static_cast<std::int64_t>(i)) * kLength, false});
    CHECK(logs[0][3 + i].is_wait);
  }
}

TEST_CASE("What nobody calls complete is reduced at the end") {
  test::run_ranks(2, [](Communicator& world, Stream& stream) {
    Vectors made = vectors({kLength, kLength}, world);
    ParameterBuffer buffer(made.pointers(), {DType::kFloat32, {}, 1}, stream);
    buffer.begin_gradients(stream);
    fill(made.parameters[0], 1.0F);
    fill(made.parameters[1], 2.0F);
    buffer.gradient_complete(made.parameters[0], stream);  // behind one that is not complete
    buffer.reduce_gradients(stream);
    for (int i = 0; i < 2; ++i) {
      const Tensor& shard = buffer.groups()[static_cast<std::size_t>(i)].gradient_shard;
      FATHOM_CHECK(shard.values<float>()[0] == 2.0F * static_cast<float>(i + 1));
    }
  });
}

TEST_CASE("A step sees nothing of what the memory of gradients held before it") {
  const DType dtype = GENERATE(DType::kFloat32, DType::kInt64);
  test::run_ranks(2, [dtype](Communicator& world, Stream& stream) {
    Vectors made = vectors({kLength, 100, 300, 77}, world);  // with padding, behind the last too
    Parameter& added_to = made.parameters[1];
    Parameter& complete = made.parameters[2];  // and nothing added; the others not even complete
    ParameterFormat format;
    format.gradients.dtype = dtype;
    format.gradients.tokens_per_step = 1;
    ParameterBuffer buffer(made.pointers(), format, stream);
    for (int step = 0; step < 2; ++step) {
      Tensor& memory = buffer.groups()[0].gradients;
      std::fill_n(memory.raw(), memory.size_bytes(), std::byte{0xff});  // NaN, or -1
      buffer.begin_gradients(stream);
      kernels::fill(added_to.grad.sum, static_cast<float>(std::int64_t{1} << 48), stream);
      added_to.grad.is_empty = false;
      buffer.gradient_complete(complete, stream);
      buffer.reduce_gradients(stream);
      const ParameterGroup& group = buffer.groups()[0];
      const float unit = dtype == DType::kInt64 ? 2.0F : 2.0F * 0x1p48F;
      const std::int64_t begin = world.rank() * group.shard_size;
      for (std::int64_t i = 0; i < group.shard_size; ++i) {
        const bool is_added_to = begin + i >= kLength && begin + i < kLength + 100;
        const float found = group.gradient_shard.data<float>()[i];
        FATHOM_CHECK(found == (is_added_to ? unit : 0.0F), begin + i, ": ", found);
      }
    }
  });
}

TEST_CASE("A gradient takes nothing more once it is complete, until the next step") {
  test::run_ranks(1, [](Communicator& world, Stream& stream) {
    Vectors made = vectors({kLength, kLength}, world);
    ParameterBuffer buffer(made.pointers(), {}, stream);
    Parameter& parameter = made.parameters[1];
    buffer.gradient_complete(parameter, stream);
    FATHOM_CHECK(!parameter.grad.sum.defined() && made.parameters[0].grad.sum.defined());
    bool is_refused = false;
    try {
      buffer.gradient_complete(parameter, stream);
    } catch (const InternalError&) {
      is_refused = true;
    }
    FATHOM_CHECK(is_refused);
    buffer.reduce_gradients(stream);
    buffer.begin_gradients(stream);
    FATHOM_CHECK(parameter.grad.sum.numel() == kLength);
  });
}

TEST_CASE("Gradients that are sent early are rounded as those that wait") {
  test::run_ranks(2, [](Communicator& world, Stream& stream) {
    Vectors made = vectors({kLength, kLength}, world);
    ParameterBuffer buffer(made.pointers(), {DType::kFloat32, {}, 1}, stream);
    constexpr float kFine = 1.00390625F;  // halfway between two numbers of bfloat16
    buffer.begin_gradients(stream, DType::kBFloat16);
    fill(made.parameters[0], kFine);
    fill(made.parameters[1], kFine);
    buffer.gradient_complete(made.parameters[1], stream);
    buffer.reduce_gradients(stream);
    for (const ParameterGroup& group : buffer.groups()) {
      FATHOM_CHECK(group.gradient_shard.values<float>()[0] ==
                   2.0F * static_cast<float>(BFloat16(kFine)));
      FATHOM_CHECK(group.gradient_shard.values<float>()[0] != 2.0F * kFine);
    }
  });
}

TEST_CASE("Values are waited for where they are asked for, and by whoever takes the groups") {
  test::run_ranks(2, [](Communicator& real_world, Stream& stream) {
    CommunicationLog log;
    const auto world = testing::record_communication(real_world, log);
    Vectors made = vectors({kLength, 2 * kLength, 3 * kLength}, *world);
    ParameterBuffer buffer(made.pointers(), {DType::kFloat32, {}, 1}, stream);
    const auto own = static_cast<float>(1 + world->rank());
    for (ParameterGroup& group : buffer.groups()) {
      for (float& value : group.value_shard.mutable_values<float>()) {
        value = own;
      }
    }
    buffer.gather_values(stream);
    CommunicationLog want;
    for (std::int64_t i = 1; i <= 3; ++i) {
      want.push_back({"world", "all_gather", i * kLength, false});
    }
    FATHOM_CHECK(log == want, log.size(), " communications");
    const auto values = made.parameters[1].value().values<float>();
    FATHOM_CHECK(values.front() == 1.0F && values.back() == 2.0F);
    want.push_back({"world", "all_gather", 2 * kLength, true});
    FATHOM_CHECK(log == want, log.size(), " communications");
    buffer.groups();
    want.push_back({"world", "all_gather", kLength, true});
    want.push_back({"world", "all_gather", 3 * kLength, true});
    FATHOM_CHECK(log == want, log.size(), " communications");
    made.parameters[0].value();
    FATHOM_CHECK(log == want, log.size(), " communications");
  });
}
