#include "data/loader.h"

#include <utility>

#include "core/error.h"

namespace fathom::data {

BatchLoader::BatchLoader(const BatchSource& data, const BatchLoaderOptions& options)
    : data_(&data), options_(options) {
  FATHOM_CHECK(options.data_rank >= 0 && options.data_rank < options.num_data_ranks &&
                   options.micro_batch_size > 0,
               "data rank ", options.data_rank, " of ", options.num_data_ranks,
               ", micro-batch size ", options.micro_batch_size);
}

std::int64_t BatchLoader::num_micro_batches(std::int64_t global_batch_size) const {
  const std::int64_t at_once = options_.num_data_ranks * options_.micro_batch_size;
  if (global_batch_size < 1 || global_batch_size % at_once != 0) {
    throw ConfigError(concat("a global batch of ", global_batch_size,
                             " sequences is no multiple of ", options_.num_data_ranks,
                             " data ranks x micro-batches of ", options_.micro_batch_size));
  }
  return global_batch_size / at_once;
}

std::int64_t BatchLoader::first_sample(const StepSamples& step) const {
  return step.first_sample +
         options_.data_rank * num_micro_batches(step.count) * options_.micro_batch_size;
}

void BatchLoader::read(const StepSamples& step, std::vector<MicroBatch>& batches) const {
  batches.resize(static_cast<std::size_t>(num_micro_batches(step.count)));
  std::int64_t sample = first_sample(step);
  for (MicroBatch& batch : batches) {
    data_->read(sample, options_.micro_batch_size, batch);
    sample += options_.micro_batch_size;
  }
}

Prefetcher::Prefetcher(const BatchLoader& loader) : loader_(&loader), thread_([this] { run(); }) {}

Prefetcher::~Prefetcher() {
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Prefetcher::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return is_stopping_ || (requested_ && !is_begun_); });
    if (is_stopping_) {
      return;
    }
    is_begun_ = true;
    const StepSamples step = *requested_;
    lock.unlock();
    std::exception_ptr error;
    try {
      loader_->read(step, next_);
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    error_ = error;
    is_ready_ = true;
    changed_.notify_all();
  }
}

void Prefetcher::request(const StepSamples& step) {
  std::unique_lock lock(mutex_);
  // The thread may still be at work on an older request, which nobody wants any more.
  changed_.wait(lock, [this] { return !is_begun_ || is_ready_; });
  requested_ = step;
  is_begun_ = false;
  is_ready_ = false;
  changed_.notify_all();
}

const std::vector<MicroBatch>& Prefetcher::take(const StepSamples& step) {
  std::unique_lock lock(mutex_);
  if (requested_ != step) {
    lock.unlock();
    loader_->read(step, taken_);
    return taken_;
  }
  changed_.wait(lock, [this] { return is_ready_; });
  requested_.reset();
  is_begun_ = false;
  is_ready_ = false;
  if (error_) {
    std::rethrow_exception(std::exchange(error_, nullptr));
  }
  std::swap(next_, taken_);
  return taken_;
}

}  // namespace fathom::data
