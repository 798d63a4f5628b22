// mpirun -n N comm_bench: median and best times of the communications that a training step is made
// of.
#include <algorithm>
#include <chrono>
#include <functional>
#include <iomanip>
#include <iostream>
#include <string>
#include <vector>

#include "core/stream.h"
#include "parallel/comm/mpi_communicator.h"

namespace {

using namespace fathom;
using parallel::Communicator;

void measure(const std::string& name, std::int64_t bytes, int repetitions, Communicator& world,
             const std::function<void()>& body) {
  using Clock = std::chrono::steady_clock;
  std::vector<double> seconds;
  body();
  for (int i = 0; i < repetitions; ++i) {
    world.barrier();
    const auto start = Clock::now();
    body();
    seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
  }
  std::sort(seconds.begin(), seconds.end());
  const double median = seconds[seconds.size() / 2];
  if (world.rank() == 0) {
    std::cout << std::left << std::setw(34) << name << std::right << std::fixed
              << std::setprecision(1) << std::setw(10) << median * 1e6 << " us, best "
              << std::setw(10) << seconds.front() * 1e6 << " us, " << std::setprecision(2)
              << std::setw(6) << static_cast<double>(bytes) / median * 1e-9 << " GB/s\n";
  }
}

void measure_all(Communicator& world, Stream& stream) {
  const std::int64_t size = world.world_size();
  Tensor one = Tensor::zeros(Shape{1}, DType::kFloat32, stream);
  measure("all_reduce 4 bytes", 4, 2000, world,
          [&] { world.all_reduce(one, parallel::ReduceOp::kSum, stream).wait(); });
  measure("barrier", 0, 2000, world, [&] { world.barrier(); });
  Tensor megabyte = Tensor::zeros(Shape{1 << 18}, DType::kFloat32, stream);
  measure("send, then back, 1 MiB", 2 << 20, 200, world, [&] {
    if (world.rank() == 0) {
      world.send(megabyte, 1, stream).wait();
      world.recv(megabyte, 1, stream).wait();
    } else if (world.rank() == 1) {
      world.recv(megabyte, 0, stream).wait();
      world.send(megabyte, 0, stream).wait();
    }
  });
  const std::int64_t rows = 4096 / size;
  const std::vector<std::int64_t> counts(static_cast<std::size_t>(size), rows);
  Tensor leaving = Tensor::zeros(Shape{rows * size, 256}, DType::kFloat32, stream);
  Tensor arrived = Tensor::zeros(leaving.shape(), DType::kFloat32, stream);
  measure("all_to_all 4 MiB a rank", 4 << 20, 100, world,
          [&] { world.all_to_all(leaving, counts, arrived, counts, stream).wait(); });
  const std::int64_t n = 7'500'000 / size / 16 * 16;
  Tensor full = Tensor::zeros(Shape{n * size}, DType::kFloat32, stream);
  Tensor shard = Tensor::zeros(Shape{n}, DType::kFloat32, stream);
  measure("reduce_scatter 30 MB", n * size * 4, 30, world,
          [&] { world.reduce_scatter(full, shard, stream).wait(); });
  measure("all_gather 30 MB", n * size * 4, 30, world,
          [&] { world.all_gather(shard, full, stream).wait(); });
  measure("all_reduce 30 MB", n * size * 4, 30, world,
          [&] { world.all_reduce(full, parallel::ReduceOp::kSum, stream).wait(); });
}

}  // namespace

int main() {
  parallel::MpiEnvironment environment;
  {
    const auto world = environment.make_world();
    Stream stream;
    measure_all(*world, stream);
  }
  environment.finish();
  return 0;
}
