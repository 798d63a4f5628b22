#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/pipelined_model.h"
#include "optim/optimizer.h"
#include "parallel/comm/communicator.h"
#include "trainer/json_lines.h"

namespace fathom::trainer {

struct TraceOptions {
  std::filesystem::path run_folder;
  // At this step every rank writes what it owns of this tensor, gradient and value. 0: never.
  std::int64_t elements_step = 0;
  std::string elements_of;
};

// Tells where two runs part: RUN/trace.jsonl has a line a step,
//   {"step": 3, "gradients": {"model.embed_tokens.weight": "77c2...", ...}, "values": {...}}
// with the hash (trainer/state_hash.h) of each published tensor in forward order: of its gradient
// as the optimizer gets it, before clipping, and of its value after the step, selection biases
// included. RUN/trace/rank-NNNNN.jsonl has the elements that a rank owns, a line for each row of a
// slice,
//   {"step": 3, "of": "gradients", "dtype": "float32", "row": 0, "column": 16, "bits": ["3f80..."]}
// with the bits of each element from that column on as a number in hexadecimal. All functions are
// collective over `world`.
class StepTrace {
 public:
  // `model`, `optimizer`, `world` and `stream` must outlive it; resume_step: see JsonLines. Throws
  // IoError, and ConfigError on every rank when the model has no tensor elements_of.
  StepTrace(TraceOptions options, std::optional<std::int64_t> resume_step,
            model::PipelinedModel& model, optim::Optimizer& optimizer,
            parallel::Communicator& world, Stream& stream);

  // To be called once gradients are reduced, and again when the step is done.
  void gradients(std::int64_t step);
  void values(std::int64_t step);

 private:
  class Visitor;
  // Sums over ranks by key, on every rank.
  std::vector<std::uint64_t> add_up(const std::vector<std::uint64_t>& mine) const;

  TraceOptions options_;
  model::PipelinedModel* model_;
  optim::Optimizer* optimizer_;
  parallel::Communicator* world_;
  Stream* stream_;
  std::vector<std::string> keys_;             // of all ranks, in forward order
  std::map<std::string, std::size_t> index_;  // into keys_
  std::vector<std::uint64_t> gradients_;      // of the step that is going on
  std::unique_ptr<JsonLines> hashes_;         // rank 0
  std::unique_ptr<JsonLines> elements_;       // when elements are asked for
};

}  // namespace fathom::trainer
