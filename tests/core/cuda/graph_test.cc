#include "core/graph.h"

#include <stdexcept>
#include <vector>

#include "core/host_copy.h"
#include "core/pool_allocator.h"
#include "tests/support/catch.h"

namespace fathom {
namespace {

Tensor numbers(const std::vector<std::int32_t>& values, Stream& stream) {
  Tensor tensor = Tensor::empty(Shape{std::ssize(values)}, DType::kInt32, stream);
  from_host<std::int32_t>(values, tensor, stream);
  return tensor;
}

void copy(const Tensor& from, Tensor& to, Stream& stream) {
  stream.queue()->copy(from.raw(), to.raw(), from.size_bytes());
}

}  // namespace

TEST_CASE("A graph does nothing when it is recorded, and everything again at each launch") {
  Stream stream(Device{DeviceType::kCuda, 0});
  Tensor input = numbers({1, 2, 3}, stream);
  Tensor output = numbers({0, 0, 0}, stream);
  REQUIRE(Graph::is_supported(stream));
  Graph graph(stream, make_pool_allocator(stream.allocator()), [&] {
    Tensor between = Tensor::zeros(input.shape(), DType::kInt32, stream);
    copy(input, between, stream);
    copy(between, output, stream);
  });
  CHECK((to_host<std::int32_t>(output, stream) == std::vector<std::int32_t>{0, 0, 0}));
  for (const std::vector<std::int32_t>& values :
       {std::vector<std::int32_t>{4, 5, 6}, std::vector<std::int32_t>{7, 8, 9}}) {
    from_host<std::int32_t>(values, input, stream);
    graph.launch();
    CHECK((to_host<std::int32_t>(output, stream) == values));
  }
}

TEST_CASE("Memory of a graph stays its own until it is dropped") {
  Stream stream(Device{DeviceType::kCuda, 0});
  Tensor input = numbers(std::vector<std::int32_t>(1000, 3), stream);
  Tensor output = numbers(std::vector<std::int32_t>(1000, 0), stream);
  const std::int64_t before = stream.allocator()->bytes_in_use();
  {
    const auto memory = make_pool_allocator(stream.allocator());
    const auto record = [&](std::int64_t size) {
      return Graph(stream, memory, [&] {
        Tensor between = Tensor::zeros(Shape{size}, DType::kInt32, stream);
        copy(input, between, stream);
        copy(between, output, stream);
      });
    };
    Graph graph = record(1000);
    CHECK(memory->bytes_in_use() == 0);
    const std::int64_t held = memory->bytes_reserved();
    CHECK(held > 0);
    CHECK(stream.allocator()->bytes_in_use() == before + held);
    // Tensors made since lie elsewhere, and are not written by a launch.
    const Tensor other = numbers(std::vector<std::int32_t>(4 << 20, 5), stream);
    graph.launch();
    CHECK((to_host<std::int32_t>(output, stream) == std::vector<std::int32_t>(1000, 3)));
    CHECK((to_host<std::int32_t>(other, stream) == std::vector<std::int32_t>(4 << 20, 5)));
    const Graph second = record(2000);
    CHECK(memory->bytes_reserved() == held);  // the graphs share it
    const Graph large = record(8 << 20);
    CHECK(memory->bytes_reserved() == held + (32 << 20));
  }
  CHECK(stream.allocator()->bytes_in_use() == before);
}

TEST_CASE("What a graph cannot hold is refused while it is recorded, and the stream goes on") {
  Stream stream(Device{DeviceType::kCuda, 0});
  Tensor tensor = numbers({1, 2}, stream);
  const std::int64_t before = stream.allocator()->bytes_in_use();
  const auto record = [&](const std::function<void()>& work) {
    Graph(stream, make_pool_allocator(stream.allocator()), work);
  };
  CHECK_THROWS_AS(record([&] { to_host<std::int32_t>(tensor, stream); }), InternalError);
  CHECK_THROWS_AS(record([&] { numbers({3}, stream); }), InternalError);
  CHECK_THROWS_AS(record([&] { stream.synchronize(); }), InternalError);
  CHECK_THROWS_AS(record([&] { record([] {}); }), InternalError);
  CHECK_THROWS_AS(record([&] { throw std::runtime_error("of the work itself"); }),
                  std::runtime_error);
  CHECK(stream.allocator()->bytes_in_use() == before);
  CHECK((to_host<std::int32_t>(tensor, stream) == std::vector<std::int32_t>{1, 2}));
  Stream cpu;
  CHECK_FALSE(Graph::is_supported(cpu));
  CHECK_THROWS_AS(Graph(cpu, make_pool_allocator(cpu.allocator()), [] {}), InternalError);
}

}  // namespace fathom
