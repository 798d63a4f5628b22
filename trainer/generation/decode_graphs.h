#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "core/graph.h"
#include "trainer/generation/drawn_rows.h"
#include "trainer/generation/generation_batch.h"

namespace fathom::trainer {

// How steps of one token a sequence were done, in numbers of steps.
struct DecodeCounts {
  std::int64_t num_given = 0;     // launch by launch
  std::int64_t num_recorded = 0;  // launch by launch into a graph, which then did it
  std::int64_t num_replayed = 0;  // by a graph that was there
};

// Steps that feed one token of each sequence, on a device that can record work: the first step of a
// shape is given as any other, which also lets libraries choose their algorithms, the second one is
// recorded, and from then on the shape's graph is launched. Graphs hold good for the addresses and
// options that they were recorded with, so they live no longer than a cache of keys and values.
class DecodeGraphs {
 public:
  // Does a step: reads the batch, sets the rows. The same work for every batch of a shape.
  using Work = std::function<void(const GenerationBatch& batch, DrawnRows& drawn)>;

  // is_recording false: all steps are given launch by launch, in the same shapes.
  DecodeGraphs(Stream& stream, bool is_recording);

  // What `work` draws for `inputs`, a decode that is filled up; valid until the next call.
  const DrawnRows& run(const GenerationInputs& inputs, const Work& work);
  const DecodeCounts& counts() const noexcept { return counts_; }

 private:
  struct Step {
    Step(const BatchShape& shape, Stream& stream);
    Tensor numbers;  // of the batch
    GenerationBatch batch;
    DrawnRows drawn;
    bool was_given = false;
    std::optional<Graph> graph;
  };

  Stream* stream_;
  bool is_recording_;
  std::shared_ptr<Allocator> memory_;  // shared: the steps come one after another
  std::map<BatchShape, Step> steps_;
  DecodeCounts counts_;
};

}  // namespace fathom::trainer
