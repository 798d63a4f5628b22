#include "kernels/cuda/cudnn_attention.h"

#define CUDNN_FRONTEND_SKIP_JSON_LIB
#include <cudnn_frontend.h>

#include <algorithm>
#include <bit>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "core/cuda/queue.h"
#include "core/error.h"
#include "kernels/cuda/attention_scratch.h"
#include "kernels/cuda/ragged_segments.h"

namespace fathom::kernels::cuda {
namespace {

namespace fe = cudnn_frontend;
using Attributes = fe::graph::Tensor_attributes;
using Node = std::shared_ptr<Attributes>;

// The tensors of a graph. Those that are ragged have rows of one of four sizes.
enum Id : std::int64_t {
  kQ,
  kKeys,
  kValues,
  kOut,
  kLse,
  kDout,
  kDq,
  kDkeys,
  kDvalues,
  kLengths,
  kOffsets  // the first of four, in the order of RowKind
};
enum RowKind : std::int64_t { kKeyRow, kValueRow, kOutRow, kLseRow };

void check(fe::error_t error, const std::string& what) {
  if (error.is_bad()) {
    throw DeviceError(concat("cuDNN, ", what, ": ", error.get_message()));
  }
}

std::string to_string(const CudnnAttentionPlan& plan) {
  return concat("attention ", plan.is_backward ? "backward" : "forward", " of ", plan.num_batches,
                plan.is_ragged ? " ragged" : "", " x ", plan.batch_tokens, " tokens, ",
                plan.num_heads, " heads of ", plan.key_size, " and ", plan.value_size);
}

// Puts the tensors and the operation of a plan into a graph.
class GraphBuilder {
 public:
  explicit GraphBuilder(const CudnnAttentionPlan& plan) : plan_(plan) {
    constexpr int kHopper = 90;  // what this backend is built for; else the driver is asked
    graph_->set_sm_version(kHopper)
        .set_io_data_type(fe::DataType_t::BFLOAT16)
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT);
    if (plan.is_ragged) {
      lengths_ = graph_->tensor(Attributes()
                                    .set_uid(kLengths)
                                    .set_data_type(fe::DataType_t::INT32)
                                    .set_alignment(sizeof(std::int32_t))
                                    .set_dim({plan.num_batches, 1, 1, 1})
                                    .set_stride({1, 1, 1, 1}));
      for (std::int64_t kind = 0; kind < kNumRowSizes; ++kind) {
        offsets_.push_back(graph_->tensor(Attributes()
                                              .set_uid(kOffsets + kind)
                                              .set_data_type(fe::DataType_t::INT64)
                                              .set_alignment(sizeof(std::int64_t))
                                              .set_dim({plan.num_batches + 1, 1, 1, 1})
                                              .set_stride({1, 1, 1, 1})));
      }
    }
  }

  std::shared_ptr<fe::graph::Graph> build() {
    if (plan_.is_backward) {
      add_backward();
    } else {
      add_forward();
    }
    return graph_;
  }

 private:
  // Dimensions are batch, head, token, element.
  template <class T>
  void describe(T& tensor, Id id, RowKind kind, std::int64_t size, std::int64_t head_stride) {
    const std::int64_t row = plan_.num_heads * head_stride;
    tensor.set_uid(id)
        .set_dim({plan_.num_batches, plan_.num_heads, plan_.batch_tokens, size})
        .set_stride({plan_.batch_tokens * row, head_stride, row, 1});
    if (kind == kLseRow) {
      tensor.set_data_type(fe::DataType_t::FLOAT).set_alignment(sizeof(float));
    }
    if (plan_.is_ragged) {
      tensor.set_ragged_offset(offsets_[static_cast<std::size_t>(kind)]);
    }
  }
  Node input(Id id, RowKind kind, std::int64_t size, std::int64_t head_stride) {
    Attributes tensor;
    describe(tensor, id, kind, size, head_stride);
    return graph_->tensor(tensor);
  }
  void output(const Node& node, Id id, RowKind kind, std::int64_t size, std::int64_t head_stride) {
    node->set_output(true);
    describe(*node, id, kind, size, head_stride);
  }
  template <class Options>
  void set_mask(Options& options) {
    options.set_attn_scale(plan_.scale)
        .set_diagonal_alignment(fe::DiagonalAlignment_t::TOP_LEFT)
        .set_diagonal_band_right_bound(0);
    if (plan_.is_ragged) {
      options.set_padding_mask(true).set_seq_len_q(lengths_).set_seq_len_kv(lengths_);
    }
  }

  void add_forward() {
    auto options = fe::graph::SDPA_attributes().set_generate_stats(true);
    set_mask(options);
    auto [out, lse] =
        graph_->sdpa(input(kQ, kKeyRow, plan_.key_size, plan_.key_size),
                     input(kKeys, kKeyRow, plan_.key_size, plan_.key_size),
                     input(kValues, kValueRow, plan_.value_size, plan_.value_head_stride), options);
    output(out, kOut, kOutRow, plan_.value_size, plan_.value_size);
    output(lse, kLse, kLseRow, 1, 1);
  }

  void add_backward() {
    auto options =
        fe::graph::SDPA_backward_attributes().set_deterministic_algorithm(plan_.is_deterministic);
    set_mask(options);
    if (plan_.is_ragged) {  // else the scratch would be that of batches of the longest
      options.set_max_total_seq_len_q(plan_.num_tokens).set_max_total_seq_len_kv(plan_.num_tokens);
    }
    const Node q = input(kQ, kKeyRow, plan_.key_size, plan_.key_size);
    const Node keys = input(kKeys, kKeyRow, plan_.key_size, plan_.key_size);
    const Node values = input(kValues, kValueRow, plan_.value_size, plan_.value_head_stride);
    const Node out = input(kOut, kOutRow, plan_.value_size, plan_.value_size);
    const Node dout = input(kDout, kOutRow, plan_.value_size, plan_.value_size);
    const Node lse = input(kLse, kLseRow, 1, 1);
    auto [dq, dkeys, dvalues] = graph_->sdpa_backward(q, keys, values, out, dout, lse, options);
    output(dq, kDq, kKeyRow, plan_.key_size, plan_.key_size);
    output(dkeys, kDkeys, kKeyRow, plan_.key_size, plan_.key_size);
    output(dvalues, kDvalues, kValueRow, plan_.value_size, plan_.value_head_stride);
  }

  const CudnnAttentionPlan& plan_;
  std::shared_ptr<fe::graph::Graph> graph_ = std::make_shared<fe::graph::Graph>();
  Node lengths_;
  std::vector<Node> offsets_;
};

// A stream's handle and compiled plans.
class Cudnn {
 public:
  explicit Cudnn(CudaQueue& queue) : queue_(queue) {
    queue.use_device();
    const cudnnStatus_t status = cudnnCreate(&handle_);
    if (status != CUDNN_STATUS_SUCCESS) {
      throw DeviceError(concat("cudnnCreate: ", cudnnGetErrorString(status)));
    }
  }
  ~Cudnn() { cudnnDestroy(handle_); }
  Cudnn(const Cudnn&) = delete;
  Cudnn& operator=(const Cudnn&) = delete;

  void run(const CudnnAttentionPlan& plan, std::unordered_map<std::int64_t, void*>& tensors,
           Stream& stream) {
    queue_.use_device();
    if (cudnnSetStream(handle_, queue_.stream()) != CUDNN_STATUS_SUCCESS) {
      throw DeviceError("cudnnSetStream failed");
    }
    fe::graph::Graph& graph = compiled(plan);
    std::int64_t scratch_bytes = 0;
    check(graph.get_workspace_size(scratch_bytes), to_string(plan));
    Tensor scratch = Tensor::empty({scratch_bytes / 4 + 1}, DType::kFloat32, stream);
    check(graph.execute(handle_, tensors, scratch.raw()), to_string(plan));
  }

 private:
  fe::graph::Graph& compiled(const CudnnAttentionPlan& plan) {
    std::shared_ptr<fe::graph::Graph>& graph = graphs_[plan];
    if (graph == nullptr) {
      const auto built = GraphBuilder(plan).build();
      check(built->build(handle_, {fe::HeurMode_t::A}), to_string(plan));
      graph = built;
    }
    return *graph;
  }

  CudaQueue& queue_;
  cudnnHandle_t handle_ = nullptr;
  std::map<CudnnAttentionPlan, std::shared_ptr<fe::graph::Graph>> graphs_;
};

// A call as a number of runs of one plan, and the last of fewer batches.
class Batches {
 public:
  Batches(const ExpandedAttention& attention, bool is_backward, Stream& stream)
      : attention_(attention), stream_(stream) {
    const AttentionShape& shape = attention.shape;
    plan_.is_backward = is_backward;
    plan_.is_deterministic = is_backward && shape.is_deterministic;
    plan_.num_heads = shape.num_heads;
    plan_.key_size = attention.key_size();
    plan_.value_size = shape.value_size;
    plan_.value_head_stride = shape.nope_size + shape.value_size;
    plan_.scale = shape.scale;
    plan_.num_batches = attention.num_segments();
    plan_.batch_tokens = attention.max_segment_tokens;
    const bool is_even = plan_.num_batches * plan_.batch_tokens == attention.num_tokens();
    plan_.is_ragged = !is_even || (is_backward && !backward_reads_lse_strides());
    if (plan_.is_ragged) {
      make_ragged(is_even);
    }
  }

  void add(Id id, const Tensor& tensor, RowKind kind, std::int64_t first_element = 0) {
    tensors_.push_back({id, tensor.raw() + first_element * size_of(tensor.dtype()),
                        row_size(kind) * size_of(tensor.dtype())});
  }

  void run() {
    const std::int64_t at_once = batches_at_once();
    for (std::int64_t begin = 0; begin < plan_.num_batches; begin += at_once) {
      CudnnAttentionPlan part = plan_;
      part.num_batches = std::min(at_once, plan_.num_batches - begin);
      std::unordered_map<std::int64_t, void*> pointers;
      for (const Argument& tensor : tensors_) {
        const std::int64_t first_row = plan_.is_ragged ? 0 : begin * plan_.batch_tokens;
        pointers[tensor.id] = tensor.data + first_row * tensor.row_bytes;
      }
      if (plan_.is_ragged) {
        pointers[kLengths] = ragged_.lengths.narrow(begin, plan_.num_batches).raw();
        for (std::int64_t kind = 0; kind < kNumRowSizes; ++kind) {
          pointers[kOffsets + kind] =
              ragged_.offsets.view_elements(kind * (plan_.num_batches + 1) + begin, {1}).raw();
        }
      }
      cuda_queue(stream_).state<Cudnn>().run(part, pointers, stream_);
    }
  }

 private:
  struct Argument {
    Id id;
    std::byte* data;
    std::int64_t row_bytes;
  };

  // Before 9.26 some backward kernels of dense batches take the lse for packed, head before token.
  static bool backward_reads_lse_strides() {
    constexpr std::size_t kFirstVersion = 92600;
    return cudnnGetVersion() >= kFirstVersion;
  }

  static std::int64_t power_of_two_from(std::int64_t size) {
    return static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(size)));
  }

  // Sizes that vary from call to call are rounded up, so that few plans are built: segments, with
  // empty ones, and tokens, which only size a backward's scratch.
  void make_ragged(bool is_even) {
    plan_.num_tokens = plan_.is_backward ? power_of_two_from(attention_.num_tokens()) : 0;
    if (!is_even) {
      plan_.num_batches = power_of_two_from(std::max<std::int64_t>(1, plan_.num_batches));
    }
    plan_.batch_tokens = ragged_batch_tokens(attention_.longest_segment());
    ragged_ = ragged_segments(
        attention_.segments,
        {row_size(kKeyRow), row_size(kValueRow), row_size(kOutRow), row_size(kLseRow)},
        plan_.num_batches, stream_);
  }

  std::int64_t row_size(RowKind kind) const {
    switch (kind) {
      case kKeyRow:
        return plan_.num_heads * plan_.key_size;
      case kValueRow:
        return plan_.num_heads * plan_.value_head_stride;
      case kOutRow:
        return plan_.num_heads * plan_.value_size;
      case kLseRow:
        return plan_.num_heads;
    }
    return 0;
  }

  std::int64_t batches_at_once() const {
    return plan_.is_deterministic ? segments_at_once(plan_.num_heads, plan_.batch_tokens)
                                  : plan_.num_batches;
  }

  const ExpandedAttention& attention_;
  Stream& stream_;
  CudnnAttentionPlan plan_;
  RaggedSegments ragged_;
  std::vector<Argument> tensors_;
};

void add_inputs(Batches& batches, const ExpandedAttention& attention) {
  batches.add(kQ, attention.q, kKeyRow);
  batches.add(kKeys, attention.keys, kKeyRow);
  batches.add(kValues, attention.kv, kValueRow, attention.shape.nope_size);
}

}  // namespace

bool cudnn_supports(const ExpandedAttention& attention) {
  constexpr std::int64_t kPack = 8;  // bfloat16 in 16 bytes
  constexpr int kMaxSize = 256;
  constexpr int kLatentKey = 192;  // with values of 128: the one unequal pair that Hopper's kernels
  constexpr int kLatentValue = 128;  // are made for
  const AttentionShape& shape = attention.shape;
  const auto is_aligned = [](const Tensor& tensor) {
    return reinterpret_cast<std::uintptr_t>(tensor.raw()) % 16 == 0;
  };
  const bool is_known_pair =
      attention.key_size() == shape.value_size ||
      (attention.key_size() == kLatentKey && shape.value_size == kLatentValue);
  const bool has_pair = attention.max_segment_tokens != 1 && attention.num_tokens() > 1;
  return attention.q.dtype() == DType::kBFloat16 && has_pair && is_known_pair &&
         attention.key_size() % kPack == 0 && shape.nope_size % kPack == 0 &&
         shape.value_size % kPack == 0 && attention.key_size() <= kMaxSize &&
         shape.value_size <= kMaxSize && is_aligned(attention.q) && is_aligned(attention.keys) &&
         is_aligned(attention.kv);
}

bool cudnn_supports_backward(const ExpandedAttention& attention) {
  const AttentionShape& shape = attention.shape;
  return cudnn_supports(attention) &&
         (!shape.is_deterministic ||
          fits_attention_scratch(shape.num_heads, attention.longest_segment()));
}

void cudnn_attention_forward(const ExpandedAttention& attention, Tensor& out, Tensor& lse,
                             Stream& stream) {
  Batches batches(attention, false, stream);
  add_inputs(batches, attention);
  batches.add(kOut, out, kOutRow);
  batches.add(kLse, lse, kLseRow);
  batches.run();
}

void cudnn_attention_backward(const ExpandedAttention& attention, const ExpandedResult& result,
                              const Tensor& dout, const ExpandedGradients& gradients,
                              Stream& stream) {
  Batches batches(attention, true, stream);
  add_inputs(batches, attention);
  batches.add(kOut, result.out, kOutRow);
  batches.add(kLse, result.lse, kLseRow);
  batches.add(kDout, dout, kOutRow);
  batches.add(kDq, gradients.dq, kKeyRow);
  batches.add(kDkeys, gradients.dkeys, kKeyRow);
  batches.add(kDvalues, gradients.dkv, kValueRow, attention.shape.nope_size);
  batches.run();
}

std::string why_cudnn_refuses(const CudnnAttentionPlan& plan,
                              const std::string& device_properties) {
  const auto device = std::make_shared<fe::DeviceProperties>();
  fe::error_t error = device->deserialize({device_properties.begin(), device_properties.end()});
  const auto graph = GraphBuilder(plan).build();
  graph->set_device_properties(device);
  const auto then = [&](auto&& stage) {
    if (error.is_good()) {
      error = stage();
    }
  };
  then([&] { return graph->validate(); });
  then([&] { return graph->build_operation_graph(); });
  then([&] { return graph->create_execution_plans({fe::HeurMode_t::A}); });
  then([&] { return graph->check_support(); });
  return error.is_good() ? std::string() : concat("cuDNN: ", error.get_message());
}

}  // namespace fathom::kernels::cuda
