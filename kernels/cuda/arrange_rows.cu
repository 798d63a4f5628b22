#include "core/cuda/launch.cuh"
#include "kernels/cuda/device_tensor.cuh"
#include "kernels/cuda/scan.cuh"
#include "kernels/permute.h"

namespace fathom::kernels {
namespace {

using namespace cuda;

constexpr int kScanThreads = 1024;
constexpr int kCopyThreads = 256;

struct Sizes {
  std::int64_t num_ranks;
  std::int64_t num_experts;
  std::int64_t num_units;

  __host__ __device__ std::int64_t num_runs() const { return num_ranks * num_experts; }
  __host__ __device__ std::int64_t num_counts() const { return num_runs() * num_units; }
};

// Where the run of rows of each (rank, expert) begins.
struct Runs {
  std::int64_t* arrival;  // [num_runs + 1]
  std::int64_t* row;      // [num_runs]
};

struct Starts {
  const std::int64_t* counts;
  std::int64_t* offsets;
  std::int64_t* part_offsets;  // or null
  Runs runs;                   // null with one rank
};

// By one block.
__global__ void __launch_bounds__(kScanThreads) find_starts(Sizes size, Starts given) {
  const std::int64_t parts_of_expert = size.num_ranks * size.num_units;
  const auto run_of_part = [=](std::int64_t part) {
    const std::int64_t rank = part % parts_of_expert / size.num_units;
    return rank * size.num_experts + part / parts_of_expert;
  };
  exclusive_scan_by_block<kScanThreads, std::int64_t>(
      size.num_counts() + 1,
      [=](std::int64_t part) {
        return part < size.num_counts()
                   ? given.counts[run_of_part(part) * size.num_units + part % size.num_units]
                   : std::int64_t{0};
      },
      [=](std::int64_t part, std::int64_t row) {
        if (part % parts_of_expert == 0) {
          given.offsets[part / parts_of_expert] = row;
        }
        if (given.part_offsets != nullptr) {
          given.part_offsets[part] = row;
        }
        if (given.runs.row != nullptr && part < size.num_counts() && part % size.num_units == 0) {
          given.runs.row[run_of_part(part)] = row;
        }
      });
  if (given.runs.arrival != nullptr) {
    exclusive_scan_by_block<kScanThreads, std::int64_t>(
        size.num_counts() + 1,
        [=](std::int64_t i) { return i < size.num_counts() ? given.counts[i] : std::int64_t{0}; },
        [=](std::int64_t i, std::int64_t arrival) {
          if (i % size.num_units == 0) {
            given.runs.arrival[i / size.num_units] = arrival;
          }
        });
  }
}

// A block a run.
__global__ void __launch_bounds__(kCopyThreads)
    write_runs(Runs runs, std::int64_t num_rows, std::int32_t* arrival_of_row,
               std::int32_t* row_of_arrival) {
  const std::int64_t first = runs.arrival[blockIdx.x];
  const std::int64_t last = min(runs.arrival[blockIdx.x + 1], num_rows);
  const std::int64_t to_row = runs.row[blockIdx.x] - first;
  for (std::int64_t arrival = first + threadIdx.x; arrival < last; arrival += kCopyThreads) {
    row_of_arrival[arrival] = static_cast<std::int32_t>(arrival + to_row);
    arrival_of_row[arrival + to_row] = static_cast<std::int32_t>(arrival);
  }
}

void arrange_rows_cuda(const Tensor& counts, Tensor& offsets, Tensor& part_offsets,
                       Tensor& arrival_of_row, Tensor& row_of_arrival, Stream& stream) {
  const Sizes size{counts.size(0), counts.size(1), counts.size(2)};
  Starts starts{device_data<std::int64_t>(counts),
                device_data<std::int64_t>(offsets),
                part_offsets.defined() ? device_data<std::int64_t>(part_offsets) : nullptr,
                {nullptr, nullptr}};
  Tensor of_runs;
  if (size.num_ranks > 1) {
    of_runs = Tensor::empty(Shape{2 * size.num_runs() + 1}, DType::kInt64, stream);
    starts.runs.arrival = device_data<std::int64_t>(of_runs);
    starts.runs.row = starts.runs.arrival + size.num_runs() + 1;
  }
  launch(find_starts, {1, kScanThreads}, stream, size, starts);
  if (size.num_ranks > 1) {
    launch(write_runs, {size.num_runs(), kCopyThreads}, stream, starts.runs, arrival_of_row.numel(),
           device_data<std::int32_t>(arrival_of_row), device_data<std::int32_t>(row_of_arrival));
  }
}

const KernelRegistration register_arrange_rows(arrange_rows_slot, DeviceType::kCuda,
                                               arrange_rows_cuda);

}  // namespace
}  // namespace fathom::kernels
