#include "core/graph.h"

#include <utility>

#include "core/error.h"

namespace fathom {

Graph::Graph(Stream& stream, std::shared_ptr<Allocator> memory, const std::function<void()>& work)
    : memory_(std::move(memory)) {
  FATHOM_CHECK(is_supported(stream), stream.device(), " records no work");
  DeviceQueue& queue = *stream.queue();
  queue.begin_capture();
  const std::shared_ptr<Allocator> before = stream.exchange_allocator(memory_);
  try {
    work();
  } catch (...) {
    stream.exchange_allocator(before);
    queue.abandon_capture();
    throw;
  }
  stream.exchange_allocator(before);
  recorded_ = queue.end_capture();
}

}  // namespace fathom
