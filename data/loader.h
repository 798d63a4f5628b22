#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "data/batch_source.h"
#include "data/micro_batch.h"

namespace fathom::data {

// The samples of one step of training, all data ranks together. first_sample of the next step =
// first_sample + count: the one integer that resuming needs.
struct StepSamples {
  std::int64_t first_sample = 0;
  std::int64_t count = 0;  // the global batch size
  friend bool operator==(const StepSamples&, const StepSamples&) = default;
};

struct BatchLoaderOptions {
  std::int64_t data_rank = 0;
  std::int64_t num_data_ranks = 1;
  std::int64_t micro_batch_size = 1;  // sequences
};

// The share of one data rank: a contiguous part of the step's samples, cut into micro-batches. Rank
// r's micro-batch m begins at sample first_sample + r * count / num_data_ranks + m *
// micro_batch_size.
class BatchLoader {
 public:
  // `data` must outlive it.
  BatchLoader(const BatchSource& data, const BatchLoaderOptions& options);

  // Micro-batches of this rank in a step. Throws ConfigError, with the numbers, unless they come
  // out even.
  std::int64_t num_micro_batches(std::int64_t global_batch_size) const;
  // The first sample of this rank's part; the others follow.
  std::int64_t first_sample(const StepSamples& step) const;
  // Fills `batches`, whose memory is used again. Throws what BatchSource::read() throws.
  void read(const StepSamples& step, std::vector<MicroBatch>& batches) const;

 private:
  const BatchSource* data_;
  BatchLoaderOptions options_;
};

// Reads the next step on a thread of its own while the current one is computed. One caller.
class Prefetcher {
 public:
  // `loader` must outlive it.
  explicit Prefetcher(const BatchLoader& loader);
  ~Prefetcher();
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  // Starts to read the step; at once returns. A request that was not taken is dropped.
  void request(const StepSamples& step);
  // The micro-batches of the step: those requested, after waiting if need be, or read here and now
  // when it is not the step requested. Valid until the next take(). Throws what reading it threw.
  const std::vector<MicroBatch>& take(const StepSamples& step);

 private:
  void run();

  const BatchLoader* loader_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<StepSamples> requested_;  // not begun, or being read, or read and not taken
  bool is_begun_ = false;
  bool is_ready_ = false;
  bool is_stopping_ = false;
  std::exception_ptr error_;
  std::vector<MicroBatch> next_;   // written by the thread while is_begun_ and not is_ready_
  std::vector<MicroBatch> taken_;  // the caller's
  std::thread thread_;
};

}  // namespace fathom::data
