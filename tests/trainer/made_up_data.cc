#include "tests/trainer/made_up_data.h"

#include <vector>

#include "configs/schema/run.pb.h"
#include "core/error.h"
#include "data/micro_batch.h"
#include "tests/trainer/choices.h"

namespace fathom::testing {
namespace {

class MadeUpData final : public data::HeldOutSource {
 public:
  MadeUpData(const config::RunConfig& config, std::string purpose, std::int64_t mtp_depth)
      : seed_(config.data().seed()),
        purpose_(std::move(purpose)),
        vocab_size_(config.model().vocab_size()),
        bytes_(static_cast<std::size_t>(vocab_size_), 2),
        builder_(config.train().sequence_length(), mtp_depth,
                 config.data().isolate_documents() ? data::Segments::kDocuments
                                                   : data::Segments::kSequences,
                 bytes_) {}

  std::int64_t num_sequences() const noexcept override { return 5; }
  void read(std::int64_t first_sample, std::int64_t count, data::MicroBatch& batch) const override {
    builder_.begin(count, batch);
    for (std::int64_t i = 0; i < count; ++i) {
      builder_.fill(i, first_sample + i, window(first_sample + i), batch);
    }
  }

 private:
  data::Window window(std::int64_t sample) const {
    Choices draws(seed_, concat(purpose_, ' ', sample));
    data::Window window;
    const std::int64_t length = builder_.window_tokens();
    window.size = draws.one_in(4) ? draws.between(1, length) : length;
    window.first_target = draws.one_in(4) ? draws.between(0, length - 1) : 0;
    const std::int64_t mean_document = draws.one_of({1, 2, 5, 20, 1000});
    const std::int64_t ignored = draws.one_of({0, 2, 5});  // one target in so many
    for (std::int64_t i = 0; i < length; ++i) {
      window.tokens.push_back(static_cast<std::int32_t>(draws.between(0, vocab_size_ - 1)));
      if (i > 0 && draws.one_in(mean_document)) {
        window.document_starts.push_back(i);
      }
      if (ignored > 0) {
        window.is_target.push_back(!draws.one_in(ignored));
      }
    }
    return window;
  }

  std::uint64_t seed_;
  std::string purpose_;
  std::int64_t vocab_size_;
  std::vector<std::int32_t> bytes_;
  data::MicroBatchBuilder builder_;
};

}  // namespace

std::unique_ptr<data::BatchSource> made_up_training_data(const config::RunConfig& config) {
  return std::make_unique<MadeUpData>(config, "training", config.model().mtp_depth());
}

std::unique_ptr<data::HeldOutSource> made_up_held_out_data(const config::RunConfig& config) {
  return std::make_unique<MadeUpData>(config, "held out", 0);
}

}  // namespace fathom::testing
