#include "core/cuda/launch.cuh"
#include "kernels/cuda/contribution.cuh"
#include "kernels/cuda/device_tensor.cuh"
#include "kernels/cuda/rows.cuh"
#include "kernels/cuda/stable_order.h"
#include "kernels/embedding.h"

namespace fathom::kernels {
namespace {

using namespace cuda;

template <class T, int N>
__global__ void __launch_bounds__(RowShare::kThreads)
    take_rows(RowShare share, const std::int32_t* tokens, const T* table, std::int64_t first_row,
              std::int64_t num_rows, T* out) {
  const std::int64_t hidden = share.items_per_row * N;
  share.for_each([=](std::int64_t token, std::int64_t pack) {
    const std::int64_t row = tokens[token] - first_row;
    float x[N] = {};
    if (row >= 0 && row < num_rows) {
      load_floats<N>(table + row * hidden + pack * N, x);
    }
#pragma unroll
    for (int i = 0; i < N; ++i) {
      x[i] += 0.0F;  // a -0 becomes +0
    }
    store_floats<N>(x, out + token * hidden + pack * N);
  });
}

template <class T, int N>
void launch_take_rows(const Tensor& tokens, const Tensor& table, std::int64_t first_row,
                      Tensor& out, Stream& stream) {
  const RowShare share = RowShare::of(out.size(0), out.size(1) / N);
  launch(take_rows<T, N>, {share.num_blocks(), RowShare::kThreads}, stream, share,
         device_data<std::int32_t>(tokens), device_data<T>(table), first_row, table.size(0),
         device_data<T>(out));
}

void embedding_forward_cuda(const Tensor& tokens, const Tensor& table, std::int64_t first_row,
                            Tensor& out, Stream& stream) {
  if (out.numel() == 0) {
    return;
  }
  with_activation_type(out.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (fits_packs<T>(out.size(1), {table.raw(), out.raw()})) {
      launch_take_rows<T, kPackSize<T>>(tokens, table, first_row, out, stream);
    } else {
      launch_take_rows<T, 1>(tokens, table, first_row, out, stream);
    }
  });
}

// The backward into integers adds each token's contributions where they belong, as they come.
// Neighbouring lanes have neighbouring columns: an atomic operation costs by the sectors it meets.
template <class T>
__global__ void __launch_bounds__(RowShare::kThreads)
    add_contributions(RowShare share, const std::int32_t* tokens, const T* dout,
                      std::int64_t first_row, std::int64_t num_rows, Contributions contributions,
                      std::int64_t* table_grad) {
  unsigned refused = 0;
  share.for_each([&](std::int64_t token, std::int64_t column) {
    const std::int64_t row = tokens[token] - first_row;
    if (row >= 0 && row < num_rows) {
      const float x = to_float(dout[token * share.items_per_row + column]);
      add_atomically(table_grad + row * share.items_per_row + column, contributions.of(x, refused));
    }
  });
  contributions.count(refused);
}

void add_tokens(const Tensor& tokens, const Tensor& dout, std::int64_t first_row,
                GradientSum& table_grad, Stream& stream) {
  if (dout.numel() == 0) {
    return;
  }
  const RowShare share = RowShare::of(dout.size(0), dout.size(1));
  with_activation_type(dout.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    launch(add_contributions<T>, {share.num_blocks(), RowShare::kThreads}, stream, share,
           device_data<std::int32_t>(tokens), device_data<T>(dout), first_row,
           table_grad.sum.size(0), Contributions(table_grad),
           device_data<std::int64_t>(table_grad.sum));
  });
}

// The backward into float32 sorts tokens by row of the table, so that the tokens of a row are a run
// of neighbours in ascending order, and gives blocks equal shares of the sorted tokens, however
// often one occurs. A run that ends in another share than it begins in is summed in parts.

constexpr int kShareTokens = 32;
constexpr int kShareThreads = 128;

// rows[i] = row of the table, num_rows for a token outside it.
__global__ void __launch_bounds__(RowShare::kThreads)
    find_rows(const std::int32_t* tokens, std::int64_t num_tokens, std::int64_t first_row,
              std::int64_t num_rows, std::int32_t* rows) {
  const std::int64_t i = std::int64_t{blockIdx.x} * RowShare::kThreads + threadIdx.x;
  if (i < num_tokens) {
    const std::int64_t row = tokens[i] - first_row;
    rows[i] = static_cast<std::int32_t>(row >= 0 && row < num_rows ? row : num_rows);
  }
}

struct SortedTokens {
  const std::int32_t* rows;
  const std::int32_t* order;
  std::int64_t num_tokens;
  std::int64_t num_rows;

  // Row of the i-th token in sorted order; -1 for none.
  __device__ __forceinline__ std::int32_t row(std::int64_t i) const {
    const std::int32_t found = i >= 0 && i < num_tokens ? rows[order[i]] : -1;
    return found < num_rows ? found : -1;
  }
};

// What of the gradient a block makes: columns of a share of the tokens.
struct Place {
  std::int64_t share;
  std::int64_t column;

  __device__ __forceinline__ static Place of_thread(int num_tiles, int columns_of_thread) {
    const unsigned tile = blockIdx.x % static_cast<unsigned>(num_tiles);
    return {blockIdx.x / static_cast<unsigned>(num_tiles),
            (std::int64_t{tile} * kShareThreads + threadIdx.x) * columns_of_thread};
  }
};

template <int N>
__device__ __forceinline__ void add_floats(const float (&x)[N], float* to) {
  float sum[N];
  load_floats<N>(to, sum);
#pragma unroll
  for (int i = 0; i < N; ++i) {
    sum[i] += x[i];
  }
  store_floats<N>(sum, to);
}

// Adds the sum of each run that begins in the share to its row of table_grad; of a run that began
// before it, the sum goes to parts[share].
template <class T, int N>
__global__ void __launch_bounds__(kShareThreads)
    sum_runs(SortedTokens tokens, const T* __restrict__ dout, std::int64_t hidden, int num_tiles,
             float* table_grad, float* parts) {
  __shared__ std::int32_t row_of[kShareTokens + 2];  // from the token before the share on
  __shared__ std::int32_t token_of[kShareTokens];
  const Place place = Place::of_thread(num_tiles, N);
  const std::int64_t first = place.share * kShareTokens;
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < kShareTokens + 2) {
    row_of[thread] = tokens.row(first + thread - 1);
  }
  if (thread < kShareTokens && first + thread < tokens.num_tokens) {
    token_of[thread] = tokens.order[first + thread];
  }
  __syncthreads();
  if (place.column >= hidden) {
    return;
  }
  float sum[N] = {};
#pragma unroll 4
  for (int i = 0; i < kShareTokens; ++i) {
    const std::int32_t row = row_of[i + 1];
    if (row < 0) {
      return;  // tokens outside the table are the last
    }
    float x[N];
    load_floats<N>(dout + token_of[i] * hidden + place.column, x);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      sum[j] += x[j];
    }
    if (i + 1 < kShareTokens && row_of[i + 2] == row) {
      continue;
    }
    if (row_of[0] == row) {
      store_floats<N>(sum, parts + place.share * hidden + place.column);
    } else {
      add_floats<N>(sum, table_grad + row * hidden + place.column);
    }
#pragma unroll
    for (int j = 0; j < N; ++j) {
      sum[j] = 0.0F;
    }
  }
}

// The first share after `share` that does not begin with the row that `share` begins with.
__device__ __forceinline__ std::int64_t end_of_run(const SortedTokens& tokens, std::int32_t row,
                                                   std::int64_t share) {
  std::int64_t last = share;
  std::int64_t end = (tokens.num_tokens + kShareTokens - 1) / kShareTokens;
  while (last + 1 < end) {
    const std::int64_t middle = (last + end) / 2;
    if (tokens.row(middle * kShareTokens) == row) {
      last = middle;
    } else {
      end = middle;
    }
  }
  return end;
}

// Adds the parts of each run, in ascending order, by the blocks of the share after the one in which
// it begins.
template <int N>
__global__ void __launch_bounds__(kShareThreads)
    add_parts(SortedTokens tokens, const float* __restrict__ parts, std::int64_t hidden,
              int num_tiles, float* table_grad) {
  const Place place = Place::of_thread(num_tiles, N);
  const std::int64_t first = place.share * kShareTokens;
  const std::int32_t row = tokens.row(first);
  const bool began_in_share_before =
      tokens.row(first - 1) == row && tokens.row(first - kShareTokens - 1) != row;
  if (row < 0 || !began_in_share_before || place.column >= hidden) {
    return;
  }
  float sum[N] = {};
  const std::int64_t end = end_of_run(tokens, row, place.share);
#pragma unroll 4
  for (std::int64_t share = place.share; share < end; ++share) {
    float x[N];
    load_floats<N>(parts + share * hidden + place.column, x);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      sum[i] += x[i];
    }
  }
  add_floats<N>(sum, table_grad + row * hidden + place.column);
}

template <class T, int N>
void add_rows(const SortedTokens& tokens, const Tensor& dout, Tensor& table_grad, Stream& stream) {
  const std::int64_t hidden = table_grad.size(1);
  const std::int64_t num_shares = blocks_for(tokens.num_tokens, kShareTokens);
  const auto num_tiles = static_cast<int>(blocks_for(hidden, std::int64_t{N} * kShareThreads));
  Tensor parts = Tensor::empty({num_shares, hidden}, DType::kFloat32, stream);
  launch(sum_runs<T, N>, {num_shares * num_tiles, kShareThreads}, stream, tokens,
         device_data<T>(dout), hidden, num_tiles, device_data<float>(table_grad),
         device_data<float>(parts));
  launch(add_parts<N>, {num_shares * num_tiles, kShareThreads}, stream, tokens,
         device_data<float>(static_cast<const Tensor&>(parts)), hidden, num_tiles,
         device_data<float>(table_grad));
}

void embedding_backward_cuda(const Tensor& tokens, const Tensor& dout, std::int64_t first_row,
                             GradientSum& table_grad, Stream& stream) {
  if (table_grad.sum.dtype() == DType::kInt64) {
    add_tokens(tokens, dout, first_row, table_grad, stream);
    return;
  }
  const std::int64_t num_tokens = tokens.size(0);
  const std::int64_t num_rows = table_grad.sum.size(0);
  Tensor rows = Tensor::empty(tokens.shape(), DType::kInt32, stream);
  launch(find_rows, {blocks_for(num_tokens, RowShare::kThreads), RowShare::kThreads}, stream,
         device_data<std::int32_t>(tokens), num_tokens, first_row, num_rows,
         device_data<std::int32_t>(rows));
  const Tensor order = stable_order(rows, num_rows + 1, stream);
  const SortedTokens sorted{device_data<std::int32_t>(static_cast<const Tensor&>(rows)),
                            device_data<std::int32_t>(order), num_tokens, num_rows};
  with_activation_type(dout.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (fits_packs<T>(dout.size(1), {dout.raw(), table_grad.sum.raw()})) {
      add_rows<T, kPackSize<T>>(sorted, dout, table_grad.sum, stream);
    } else {
      add_rows<T, 1>(sorted, dout, table_grad.sum, stream);
    }
  });
}

const KernelRegistration register_forward(embedding_forward_slot, DeviceType::kCuda,
                                          embedding_forward_cuda);
const KernelRegistration register_backward(embedding_backward_slot, DeviceType::kCuda,
                                           embedding_backward_cuda);

}  // namespace
}  // namespace fathom::kernels
