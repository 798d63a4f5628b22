#include "trainer/generation/decode_graphs.h"

#include "core/pool_allocator.h"

namespace fathom::trainer {

DecodeGraphs::Step::Step(const BatchShape& shape, Stream& stream)
    : numbers(Tensor::empty(Shape{GenerationInputs::num_numbers(shape)}, DType::kInt32, stream)),
      batch(GenerationInputs::batch_in(numbers, shape)),
      drawn(shape.num_logit_rows, stream) {}

DecodeGraphs::DecodeGraphs(Stream& stream, bool is_recording)
    : stream_(&stream),
      is_recording_(is_recording),
      memory_(make_pool_allocator(stream.allocator())) {}

const DrawnRows& DecodeGraphs::run(const GenerationInputs& inputs, const Work& work) {
  Step& step = steps_.try_emplace(inputs.shape(), inputs.shape(), *stream_).first->second;
  inputs.copy_to(step.numbers, *stream_);
  if (!is_recording_ || !step.was_given) {
    work(step.batch, step.drawn);
    step.was_given = true;
    ++counts_.num_given;
    return step.drawn;
  }
  if (step.graph) {
    ++counts_.num_replayed;
  } else {
    step.graph.emplace(*stream_, memory_, [&] { work(step.batch, step.drawn); });
    ++counts_.num_recorded;
  }
  step.graph->launch();
  return step.drawn;
}

}  // namespace fathom::trainer
