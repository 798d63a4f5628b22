#include "cli/text_evaluation.h"

#include <stdlib.h>

#include <system_error>
#include <utility>

#include "core/error.h"
#include "data/token_shard.h"
#include "data/tokenize.h"
#include "trainer/evaluate_step.h"
#include "trainer/token_data.h"

namespace fathom::cli {
namespace {

// A new folder that goes with the object.
class ScratchFolder {
 public:
  ScratchFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "fathom-text-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) {
      throw IoError(concat("cannot make a folder for tokens in ",
                           std::filesystem::temp_directory_path().string(),
                           "; TMPDIR may name another"));
    }
    path_ = name;
  }
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  const std::filesystem::path& path() const noexcept { return path_; }

 private:
  std::filesystem::path path_;
};

bool is_text_file(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(path, ignored) && path.extension() != ".h5";
}

// Shards stay readable when their folder is gone: nothing is left behind, however the job ends.
std::unique_ptr<data::EvaluationData> tokenize(const std::string& path, const StoredModel& stored) {
  const ScratchFolder folder;
  data::TokenizeOptions options;
  options.files = {path};
  options.output_prefix = folder.path() / "text";
  data::write_token_shards(*stored.tokenizer, options, [](const data::TokenizeProgress&) {});
  return trainer::open_held_out_data(stored.config, {options.output_prefix});
}

}  // namespace

HeldOutText open_text(const std::string& path, const StoredModel& stored) {
  HeldOutText text{path, is_text_file(path) ? tokenize(path, stored)
                                            : trainer::open_held_out_data(stored.config, {path})};
  const data::TokenShard& shard = text.data->documents().shards().front();
  data::check_tokenizer_hash(shard, stored.tokenizer->hash());
  data::check_model_vocabulary(shard, stored.config.model().vocab_size());
  return text;
}

std::vector<TextScore> score_texts(std::vector<HeldOutText> texts, std::int64_t num_sequences,
                                   const StoredModel& stored, LoadedModel& loaded,
                                   Session& session) {
  config::RunConfig config = stored.config;
  config.mutable_evaluation()->set_num_sequences(num_sequences);
  trainer::EvaluateStep step(loaded.model(), loaded.mesh(), loaded.stream());
  std::vector<TextScore> scores;
  for (HeldOutText& text : texts) {
    session.heartbeat().begin_phase("evaluate text");
    trainer::RunSources sources;
    sources.held_out = std::move(text.data);
    const trainer::RunData data(config, std::move(sources));
    scores.push_back(
        {text.path, data.evaluate(step, loaded.mesh(), loaded.stream(), session.heartbeat())});
  }
  return scores;
}

}  // namespace fathom::cli
