#include "trainer/token_data.h"

#include "configs/schema/run.pb.h"
#include "core/error.h"
#include "core/hexadecimal.h"
#include "data/checksum.h"

namespace fathom::trainer {

data::DocumentStart make_document_start(const config::RunConfig& config) {
  return config.data().document_start() == config::Data::BOS ? data::DocumentStart::kBos
                                                             : data::DocumentStart::kPlain;
}

data::TrainingDataOptions make_training_data_options(const config::RunConfig& config) {
  data::TrainingDataOptions options;
  for (const config::Data::Source& source : config.data().train()) {
    options.sources.push_back({"", {source.path()}, source.weight()});
  }
  options.seed = config.data().seed();
  options.sequence_length = config.train().sequence_length();
  options.mtp_depth = config.model().mtp_depth();
  options.order =
      config.data().shuffle() ? data::DocumentOrder::kShuffled : data::DocumentOrder::kAsStored;
  options.document_start = make_document_start(config);
  options.fim_rate = config.data().fim_rate();
  options.segments =
      config.data().isolate_documents() ? data::Segments::kDocuments : data::Segments::kSequences;
  return options;
}

std::unique_ptr<data::EvaluationData> open_held_out_data(
    const config::RunConfig& config, const std::vector<std::filesystem::path>& paths) {
  data::EvaluationDataOptions options;  // no MTP modules: their losses are not asked for
  options.paths = paths;
  options.document_start = make_document_start(config);
  options.sequence_length = config.train().sequence_length();
  options.segments =
      config.data().isolate_documents() ? data::Segments::kDocuments : data::Segments::kSequences;
  return std::make_unique<data::EvaluationData>(options);
}

RunSources open_token_data(const config::RunConfig& config) {
  RunSources sources;
  auto training = std::make_unique<data::TrainingData>(make_training_data_options(config));
  training->check_model_vocabulary(config.model().vocab_size());
  sources.tokenizer_hash = training->vocabulary().tokenizer_hash;
  if (!config.data().tokenizer().empty()) {
    sources.tokenizer =
        std::make_unique<data::Tokenizer>(data::Tokenizer::load(config.data().tokenizer()));
    training->check_tokenizer(*sources.tokenizer);
    sources.encode_prompt = [tokenizer = sources.tokenizer.get(),
                             start = make_document_start(config)](const std::string& text) {
      return data::encode_document(*tokenizer, text, start);
    };
    sources.completion_end = make_completion_end(*sources.tokenizer);
  }
  for (const auto& source : training->sources()) {
    sources.contents.push_back(hexadecimal(source->documents().contents()));
  }
  sources.training = std::move(training);
  if (config.data().validation_size() > 0) {
    const auto& paths = config.data().validation();
    auto held_out = open_held_out_data(config, {paths.begin(), paths.end()});
    if (held_out->vocabulary().tokenizer_hash != sources.tokenizer_hash) {
      throw ConfigError(concat(
          "data.validation (", config.data().validation(0),
          ") was made with another tokenizer than data.train (", config.data().train(0).path(),
          "): ", held_out->vocabulary().tokenizer_hash, " and ", sources.tokenizer_hash));
    }
    sources.held_out = std::move(held_out);
  }
  return sources;
}

}  // namespace fathom::trainer
