#include "tests/trainer/checkpoint/checkpoint_state.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "core/rng.h"
#include "parallel/comm/thread_communicator.h"
#include "tests/support/run_ranks.h"

namespace fathom::test {
namespace {

struct Cut {
  std::int64_t row_begin, num_rows, column_begin, num_columns;
};

// Splits at random places until the pieces are few or small.
void split(const Cut& cut, int depth, const RandomSource& random, std::uint64_t& draw,
           std::vector<Cut>& out) {
  if (depth == 0 || (cut.num_rows < 2 && cut.num_columns < 2)) {
    out.push_back(cut);
    return;
  }
  const bool by_rows = cut.num_rows >= 2 && (cut.num_columns < 2 || random.below(draw++, 2) == 0);
  const std::int64_t size = by_rows ? cut.num_rows : cut.num_columns;
  const auto at =
      static_cast<std::int64_t>(1 + random.below(draw++, static_cast<std::uint64_t>(size - 1)));
  Cut first = cut, second = cut;
  if (by_rows) {
    first.num_rows = at;
    second.row_begin += at;
    second.num_rows -= at;
  } else {
    first.num_columns = at;
    second.column_begin += at;
    second.num_columns -= at;
  }
  split(first, depth - 1, random, draw, out);
  split(second, depth - 1, random, draw, out);
}

// Calls visit(byte offset in the tensor, the element's bits) for each element of a slice.
template <class Visit>
void for_each_element(const parallel::StateSlice& slice, DType dtype, std::uint64_t content,
                      Visit visit) {
  const RandomSource random(content, slice.key);
  // Finite bfloat16 alone: readers that go through float32 may change the bits of a NaN.
  const std::uint64_t mask = dtype == DType::kBFloat16 ? 0xbfff : ~std::uint64_t{0};
  const std::int64_t columns = slice.global_shape[-1];
  for (std::int64_t row = 0; row < slice.num_rows; ++row) {
    for (std::int64_t column = 0; column < slice.num_columns; ++column) {
      const std::int64_t element = (slice.row_begin + row) * columns + slice.column_begin + column;
      visit((row * slice.num_columns + column) * size_of(dtype),
            random.bits(static_cast<std::uint64_t>(element)) & mask);
    }
  }
}

std::vector<std::string> on_ranks(
    int num_ranks, const std::function<void(parallel::Communicator&, Stream&)>& body) {
  std::vector<std::string> messages(static_cast<std::size_t>(num_ranks));
  run_ranks(num_ranks, [&](parallel::Communicator& world, Stream& stream) {
    messages[static_cast<std::size_t>(world.rank())] = error_of([&] { body(world, stream); });
  });
  return messages;
}

}  // namespace

std::vector<TensorSpec> all_kinds_of_tensors() {
  return {{"model.embed_tokens.weight", {37, 13}},
          {"model.layers.0.input_layernorm.weight", {29}},
          {"model.layers.0.mlp.experts.3.down_proj.weight", {64, 96}},
          {"model.layers.0.mlp.experts.3.down_proj.weight.exp_avg", {64, 96}, DType::kBFloat16},
          {"model.layers.0.mlp.gate.e_score_correction_bias", {1}},
          {"model.layers.1.mlp.gate.counts", {5}, DType::kInt64},
          {"model.layers.1.token_of.weight", {3, 1}, DType::kInt32},
          {"lm_head.weight", {700, 513}}};
}

std::vector<TensorSpec> few_small_tensors() {
  return {{"model.embed_tokens.weight", {7, 5}},
          {"model.norm.weight", {9}},
          {"model.norm.weight.exp_avg", {9}, DType::kBFloat16}};
}

FakeState::FakeState(const std::vector<TensorSpec>& specs, int num_ranks, int rank,
                     std::uint64_t layout_seed, Stream& stream)
    : num_ranks_(num_ranks), rank_(rank) {
  for (const TensorSpec& spec : specs) {
    cut(spec, layout_seed, stream);
  }
}

void FakeState::cut(const TensorSpec& spec, std::uint64_t layout_seed, Stream& stream) {
  const RandomSource random(layout_seed, spec.key);
  std::uint64_t draw = 0;
  std::vector<Cut> cuts;
  const std::int64_t rows = spec.shape.rank() == 1 ? 1 : spec.shape[0];
  split({0, rows, 0, spec.shape[-1]}, static_cast<int>(random.below(draw++, 4)), random, draw,
        cuts);
  for (const Cut& cut : cuts) {
    const auto owner =
        static_cast<int>(random.below(draw++, static_cast<std::uint64_t>(num_ranks_)));
    const auto replica =
        static_cast<int>(random.below(draw++, static_cast<std::uint64_t>(num_ranks_)));
    if (rank_ == owner || rank_ == replica) {
      slices_.push_back(
          {.where = {.key = spec.key,
                     .global_shape = spec.shape,
                     .row_begin = cut.row_begin,
                     .num_rows = cut.num_rows,
                     .column_begin = cut.column_begin,
                     .num_columns = cut.num_columns,
                     .is_owner = rank_ == owner},
           .value = Tensor::zeros({cut.num_rows * cut.num_columns}, spec.dtype, stream)});
    }
  }
}

void FakeState::fill(std::uint64_t content) {
  step = static_cast<std::int64_t>(content);
  tokens = static_cast<std::int64_t>(content * 1000003);
  for (Slice& slice : slices_) {
    const DType dtype = slice.value.dtype();
    for_each_element(slice.where, dtype, content, [&](std::int64_t offset, std::uint64_t bits) {
      std::memcpy(slice.value.raw() + offset, &bits, static_cast<std::size_t>(size_of(dtype)));
    });
  }
}

void FakeState::clear() {
  step = -1;
  tokens = -1;
  for (Slice& slice : slices_) {
    std::memset(slice.value.raw(), 0x5a, static_cast<std::size_t>(slice.value.size_bytes()));
  }
}

std::string FakeState::difference_from(std::uint64_t content) const {
  if (step != static_cast<std::int64_t>(content) ||
      tokens != static_cast<std::int64_t>(content * 1000003)) {
    return concat("step ", step, ", tokens ", tokens);
  }
  std::string difference;
  for (const Slice& slice : slices_) {
    const DType dtype = slice.value.dtype();
    for_each_element(slice.where, dtype, content, [&](std::int64_t offset, std::uint64_t bits) {
      if (std::memcmp(slice.value.raw() + offset, &bits,
                      static_cast<std::size_t>(size_of(dtype))) != 0 &&
          difference.empty()) {
        difference = concat(slice.where.key, " at byte ", offset, " of the slice at row ",
                            slice.where.row_begin, ", column ", slice.where.column_begin);
      }
    });
  }
  return difference;
}

void FakeState::visit(parallel::StateVisitor& visitor) {
  visitor.integer("step", step);
  for (Slice& slice : slices_) {
    visitor.tensor(slice.where, slice.value);
  }
  visitor.integer("tokens", tokens);
}

std::string describe_tensors(const std::vector<TensorSpec>& specs, std::uint64_t content) {
  std::vector<std::string> lines;
  for (const TensorSpec& spec : specs) {
    const std::int64_t bytes = size_of(spec.dtype);
    const parallel::StateSlice whole{.key = spec.key,
                                     .global_shape = spec.shape,
                                     .row_begin = 0,
                                     .num_rows = spec.shape.rank() == 1 ? 1 : spec.shape[0],
                                     .column_begin = 0,
                                     .num_columns = spec.shape[-1]};
    std::uint64_t sum = 0;
    for_each_element(whole, spec.dtype, content, [&](std::int64_t offset, std::uint64_t bits) {
      const std::uint64_t stored =
          bytes == 8 ? bits : bits & ((std::uint64_t{1} << (8 * bytes)) - 1);
      sum += (static_cast<std::uint64_t>(offset / bytes) + 1) * stored;
    });
    lines.push_back(concat(spec.key, " ", spec.shape, " ", bytes, " ", sum, "\n"));
  }
  std::sort(lines.begin(), lines.end());
  std::string text;
  for (const std::string& line : lines) {
    text += line;
  }
  return text;
}

trainer::CheckpointIdentity test_identity() {
  return {.program_version = "0.1.0",
          .tokenizer_hash = "4b1d",
          .config_text = "run { seed: 1 }\n",
          .model = {{"hidden_size", "256"}, {"num_layers", "4"}},
          .data_contents = {"00000000000000aa", "00000000000000bb"}};
}

std::vector<std::string> save_on_ranks(
    const std::filesystem::path& root, std::int64_t step, int num_ranks, std::uint64_t layout_seed,
    const std::vector<TensorSpec>& specs,
    const std::function<void(int rank, trainer::CheckpointOptions& options)>& adjust) {
  return on_ranks(num_ranks, [&](parallel::Communicator& world, Stream& stream) {
    FakeState state(specs, num_ranks, world.rank(), layout_seed, stream);
    state.fill(static_cast<std::uint64_t>(step));
    trainer::CheckpointOptions options{.root = root};
    if (adjust) {
      adjust(world.rank(), options);
    }
    trainer::save_checkpoint(options, step, state.visitor(), test_identity(), world);
  });
}

std::vector<std::string> load_on_ranks(const std::filesystem::path& root, std::int64_t step,
                                       int num_ranks, std::uint64_t layout_seed,
                                       const std::vector<TensorSpec>& specs) {
  return on_ranks(num_ranks, [&](parallel::Communicator& world, Stream& stream) {
    FakeState state(specs, num_ranks, world.rank(), layout_seed, stream);
    state.clear();
    trainer::load_checkpoint({.root = root}, step, state.visitor(), test_identity(), world);
    const std::string difference = state.difference_from(static_cast<std::uint64_t>(step));
    FATHOM_CHECK(difference.empty(), difference);
  });
}

std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const ConfigError& error) {
    return "config: " + error.message();
  } catch (const IoError& error) {
    return "io: " + error.message();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

bool all_empty(const std::vector<std::string>& messages) {
  return std::all_of(messages.begin(), messages.end(),
                     [](const std::string& message) { return message.empty(); });
}

std::vector<std::string> names_in(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace fathom::test
