#include "trainer/step_trace.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <span>
#include <sstream>
#include <system_error>

#include "core/error.h"
#include "core/file.h"
#include "core/hexadecimal.h"
#include "core/host_copy.h"
#include "parallel/comm/gather_bytes.h"
#include "trainer/forward_order.h"
#include "trainer/state_hash.h"

namespace fathom::trainer {
namespace {

// The names of the tensors that a rank shows.
class CollectKeys final : public parallel::StateVisitor {
 public:
  Access access() const noexcept override { return Access::kLook; }
  void tensor(const parallel::StateSlice& slice, Tensor&) override { keys.insert(slice.key); }
  void integer(const std::string&, std::int64_t&) override {}
  std::set<std::string> keys;
};

// Of all ranks, in forward order, on every rank. Optimizer states are not among them.
std::vector<std::string> traced_keys(model::PipelinedModel& model, parallel::Communicator& world) {
  CollectKeys mine;
  model.visit_state(mine);
  for (const parallel::ParameterGroup& group : model.parameters().groups()) {
    for (const parallel::Parameter* parameter : group.parameters) {
      for (const parallel::Piece& piece : parameter->pieces) {
        mine.keys.insert(piece.key);
      }
    }
  }
  std::string text;
  for (const std::string& key : mine.keys) {
    text += key + '\n';
  }
  std::set<std::string> all;
  std::string union_text;
  for (const std::string& part : parallel::gather_bytes(text, 0, world)) {
    std::istringstream lines(part);
    for (std::string key; std::getline(lines, key);) {
      union_text += all.insert(key).second ? key + '\n' : "";
    }
  }
  std::vector<std::string> keys;
  std::istringstream lines(parallel::broadcast_bytes(union_text, 0, world));
  for (std::string key; std::getline(lines, key);) {
    keys.push_back(key);
  }
  sort_in_forward_order(keys, model.options().num_layers);
  return keys;
}

// The elements of a row, of `size` bytes each, as numbers in hexadecimal.
nlohmann::ordered_json bits_of_row(std::span<const std::byte> row, std::size_t size) {
  auto result = nlohmann::ordered_json::array();
  for (std::size_t at = 0; at < row.size(); at += size) {
    std::uint64_t bits = 0;
    std::memcpy(&bits, row.data() + at, size);
    result.push_back(hexadecimal(bits).substr(16 - 2 * size));
  }
  return result;
}

}  // namespace

// Hashes what this rank owns, by key, and writes the elements that are asked for.
class StepTrace::Visitor final : public parallel::StateVisitor {
 public:
  Visitor(StepTrace& trace, const char* what, std::int64_t step)
      : sums(trace.keys_.size(), 0), trace_(&trace), what_(what), step_(step) {}

  Access access() const noexcept override { return Access::kRead; }

  void tensor(const parallel::StateSlice& slice, Tensor& local) override {
    const auto found = trace_->index_.find(slice.key);
    if (!slice.is_owner || found == trace_->index_.end()) {
      return;
    }
    sums[found->second] += hash_elements(slice, local, *trace_->stream_);
    if (step_ == trace_->options_.elements_step && slice.key == trace_->options_.elements_of) {
      write_elements(slice, local);
    }
  }
  void integer(const std::string&, std::int64_t&) override {}

  std::vector<std::uint64_t> sums;

 private:
  void write_elements(const parallel::StateSlice& slice, const Tensor& local) {
    std::vector<std::byte> bytes(static_cast<std::size_t>(local.size_bytes()));
    copy_to_host(local, bytes, *trace_->stream_);
    const auto size = static_cast<std::size_t>(size_of(local.dtype()));
    const std::size_t row_bytes = static_cast<std::size_t>(slice.num_columns) * size;
    for (std::int64_t row = 0; row < slice.num_rows; ++row) {
      nlohmann::ordered_json line;
      line["step"] = step_;
      line["of"] = what_;
      line["dtype"] = to_string(local.dtype());
      line["row"] = slice.row_begin + row;
      line["column"] = slice.column_begin;
      line["bits"] = bits_of_row(
          std::span(bytes).subspan(static_cast<std::size_t>(row) * row_bytes, row_bytes), size);
      trace_->elements_->append(line.dump());
    }
  }

  StepTrace* trace_;
  const char* what_;
  std::int64_t step_;
};

StepTrace::StepTrace(TraceOptions options, std::optional<std::int64_t> resume_step,
                     model::PipelinedModel& model, optim::Optimizer& optimizer,
                     parallel::Communicator& world, Stream& stream)
    : options_(std::move(options)),
      model_(&model),
      optimizer_(&optimizer),
      world_(&world),
      stream_(&stream),
      keys_(traced_keys(model, world)) {
  for (std::size_t i = 0; i < keys_.size(); ++i) {
    index_.emplace(keys_[i], i);
  }
  if (world.rank() == 0) {
    hashes_ = std::make_unique<JsonLines>(options_.run_folder / "trace.jsonl", resume_step);
  }
  if (options_.elements_step > 0) {
    if (!index_.contains(options_.elements_of)) {
      throw ConfigError(concat("train.trace.elements_of: the model has no tensor \"",
                               options_.elements_of, "\"; trace.jsonl names those it has"));
    }
    const std::filesystem::path folder = options_.run_folder / "trace";
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error) {
      throw_io_error("create", folder, error.value());
    }
    std::string digits = std::to_string(world.rank());
    digits.insert(0, digits.size() < 5 ? 5 - digits.size() : 0, '0');
    elements_ =
        std::make_unique<JsonLines>(folder / concat("rank-", digits, ".jsonl"), resume_step);
  }
}

std::vector<std::uint64_t> StepTrace::add_up(const std::vector<std::uint64_t>& mine) const {
  // In parts, so that memory does not grow with ranks x tensors.
  constexpr std::size_t kPart = 4096;
  std::vector<std::uint64_t> sums(mine.size(), 0);
  for (std::size_t begin = 0; begin < mine.size(); begin += kPart) {
    const std::size_t count = std::min(kPart, mine.size() - begin);
    std::vector<std::int64_t> part(mine.begin() + static_cast<std::ptrdiff_t>(begin),
                                   mine.begin() + static_cast<std::ptrdiff_t>(begin + count));
    std::vector<std::int64_t> all(count * static_cast<std::size_t>(world_->world_size()));
    world_->all_gather_integers(part, all);
    for (std::size_t i = 0; i < all.size(); ++i) {
      sums[begin + i % count] += static_cast<std::uint64_t>(all[i]);
    }
  }
  return sums;
}

void StepTrace::gradients(std::int64_t step) {
  Visitor visitor(*this, "gradients", step);
  for (const parallel::ParameterGroup& group : model_->parameters().groups()) {
    for (const parallel::ParameterRange& range : group.shard_ranges) {
      parallel::visit_range(range, group.gradient_shard, "", true, visitor);
    }
  }
  gradients_ = add_up(visitor.sums);
}

void StepTrace::values(std::int64_t step) {
  Visitor visitor(*this, "values", step);
  optimizer_->visit_state(visitor);
  model_->visit_state(visitor);
  const std::vector<std::uint64_t> values = add_up(visitor.sums);
  if (!hashes_) {
    return;
  }
  nlohmann::ordered_json line;
  line["step"] = step;
  for (std::size_t i = 0; i < keys_.size(); ++i) {
    // Nothing where no update was made; the sum of no elements: selection biases have no gradient.
    if (!gradients_.empty() && gradients_[i] != 0) {
      line["gradients"][keys_[i]] = hexadecimal(gradients_[i]);
    }
    line["values"][keys_[i]] = hexadecimal(values[i]);
  }
  hashes_->append(line.dump());
  gradients_.clear();
}

}  // namespace fathom::trainer
