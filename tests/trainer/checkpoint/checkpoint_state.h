#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "core/stream.h"
#include "core/tensor.h"
#include "parallel/comm/communicator.h"
#include "trainer/checkpoint/checkpoint.h"

namespace fathom::test {

struct TensorSpec {
  std::string key;
  Shape shape;
  DType dtype = DType::kFloat32;
};

// Some odd sizes, every dtype, one and two dimensions, one tensor of more than a block of the
// reader.
std::vector<TensorSpec> all_kinds_of_tensors();
// A few hundred bytes in all, for tests that go through every byte.
std::vector<TensorSpec> few_small_tensors();

// The state of one rank: each tensor cut into random rectangles that random ranks own, some of them
// held by other ranks, too. Each element has bits of its own, a function of key, place and
// `content`.
class FakeState {
 public:
  // layout_seed: another cut and other owners.
  FakeState(const std::vector<TensorSpec>& specs, int num_ranks, int rank,
            std::uint64_t layout_seed, Stream& stream);

  void fill(std::uint64_t content);
  void clear();
  // Empty when everything has the bits that fill(content) gives, otherwise the first difference.
  std::string difference_from(std::uint64_t content) const;
  void visit(parallel::StateVisitor& visitor);
  trainer::VisitState visitor() {
    return [this](parallel::StateVisitor& v) { visit(v); };
  }

  std::int64_t step = 0, tokens = 0;

 private:
  struct Slice {
    parallel::StateSlice where;
    Tensor value;
  };
  void cut(const TensorSpec& spec, std::uint64_t layout_seed, Stream& stream);

  int num_ranks_, rank_;
  std::vector<Slice> slices_;
};

// A line for each tensor that fill(content) gives, sorted by name: "name [rows, columns]
// element-size sum", where the sum is over (1 + index) * bits of each element, modulo 2^64.
std::string describe_tensors(const std::vector<TensorSpec>& specs, std::uint64_t content);

trainer::CheckpointIdentity test_identity();

// Saves, or loads and compares, on `num_ranks` thread ranks. Returns each rank's error message,
// empty where there was none.
std::vector<std::string> save_on_ranks(
    const std::filesystem::path& root, std::int64_t step, int num_ranks, std::uint64_t layout_seed,
    const std::vector<TensorSpec>& specs,
    const std::function<void(int rank, trainer::CheckpointOptions& options)>& adjust = {});
std::vector<std::string> load_on_ranks(const std::filesystem::path& root, std::int64_t step,
                                       int num_ranks, std::uint64_t layout_seed,
                                       const std::vector<TensorSpec>& specs);
// The message of the error that call() throws, with its kind in front ("config: ..."); empty when
// it throws none.
std::string error_of(const std::function<void()>& call);
bool all_empty(const std::vector<std::string>& messages);
// Names in a folder, sorted.
std::vector<std::string> names_in(const std::filesystem::path& folder);

}  // namespace fathom::test
