#include "trainer/chat_data.h"

#include <iomanip>
#include <sstream>

#include "configs/schema/run.pb.h"
#include "core/error.h"
#include "core/hexadecimal.h"
#include "data/checksum.h"
#include "data/conversation_data.h"

namespace fathom::trainer {
namespace {

data::ConversationDataOptions make_conversation_options(const config::RunConfig& config) {
  const config::Chat& chat = config.data().chat();
  data::ConversationDataOptions options;
  options.markers = make_chat_markers(config);
  options.too_long =
      chat.too_long() == config::Chat::DROP ? data::TooLong::kDrop : data::TooLong::kTruncate;
  options.sequence_length = config.train().sequence_length();
  options.mtp_depth = config.model().mtp_depth();
  return options;
}

std::string describe(const std::string& name, const data::ConversationSet& set,
                     std::int64_t sequence_length) {
  const data::ConversationCounts& counts = set.counts();
  const double full = static_cast<double>(counts.tokens) /
                      static_cast<double>(set.num_sequences() * (sequence_length + 1));
  std::ostringstream line;
  line << name << ": " << counts.conversations << " conversations, " << counts.truncated
       << " truncated, " << counts.dropped << " dropped; " << counts.tokens << " tokens, "
       << counts.response_tokens << " of answers, in " << set.num_sequences() << " sequences, "
       << std::fixed << std::setprecision(1) << 100.0 * full << "% full";
  return line.str();
}

// One line for each source, with the steps that an epoch of it takes.
std::vector<std::string> describe_sources(const data::ConversationData& training,
                                          const config::RunConfig& config) {
  double all_weights = 0.0;
  for (const config::Data::Source& source : config.data().train()) {
    all_weights += source.weight();
  }
  std::vector<std::string> lines;
  for (int i = 0; i < config.data().train_size(); ++i) {
    const auto& source = training.sources()[static_cast<std::size_t>(i)];
    const double sequences_per_step = static_cast<double>(config.train().global_batch_size()) *
                                      config.data().train(i).weight() / all_weights;
    std::ostringstream epoch;
    epoch << std::fixed << std::setprecision(1)
          << static_cast<double>(source.conversations.num_sequences()) / sequences_per_step;
    lines.push_back(
        concat(describe(source.name, source.conversations, config.train().sequence_length()),
               "; an epoch is ", epoch.str(), " steps"));
  }
  return lines;
}

// Default markers that the tokenizer has no tokens for: not wrong, but long.
void note_missing_tokens(const config::Chat& chat, const data::Tokenizer& tokenizer,
                         std::vector<std::string>& notes) {
  const auto note = [&](bool is_given, const char* field, const std::string& marker) {
    if (!is_given && !tokenizer.token_id(marker)) {
      notes.push_back(concat("the tokenizer has no token ", marker, ": ",
                             tokenizer.encode(marker).size(),
                             " tokens of text stand for it; data.chat.", field, " may be shorter"));
    }
  };
  note(chat.has_user(), "user", chat.user());
  note(chat.has_assistant(), "assistant", chat.assistant());
}

}  // namespace

data::ChatMarkers make_chat_markers(const config::RunConfig& config) {
  const config::Chat& chat = config.data().chat();
  data::ChatMarkers markers;
  if (chat.has_begin()) {
    markers.begin = chat.begin();
  }
  markers.system = chat.system();
  markers.system_end = chat.system_end();
  markers.user = chat.user();
  markers.assistant = chat.assistant();
  if (chat.has_end()) {
    markers.end = chat.end();
  }
  markers.answer_tokens.assign(chat.answer_tokens().begin(), chat.answer_tokens().end());
  return markers;
}

std::unique_ptr<data::Tokenizer> load_tokenizer(const config::RunConfig& config) {
  auto tokenizer =
      std::make_unique<data::Tokenizer>(data::Tokenizer::load(config.data().tokenizer()));
  if (tokenizer->vocab_size() > config.model().vocab_size()) {
    throw ConfigError(concat("data.tokenizer (", config.data().tokenizer(), ") has ",
                             tokenizer->vocab_size(), " tokens, the model has ",
                             config.model().vocab_size(), ": set model.vocab_size to ",
                             tokenizer->vocab_size(), " or more"));
  }
  return tokenizer;
}

std::function<std::vector<std::int32_t>(const std::string&)> make_chat_encoder(
    const config::RunConfig& config, const data::Tokenizer& tokenizer) {
  return [&tokenizer, chat = data::ChatTemplate(tokenizer, make_chat_markers(config))](
             const std::string& text) {
    data::Encoder encoder(tokenizer, text.size());
    return chat.encode_prompt(text, encoder);
  };
}

CompletionEnd make_completion_end(const config::RunConfig& config, const data::Tokenizer& tokenizer,
                                  bool is_chat, std::vector<std::string> stop) {
  return is_chat ? make_completion_end(
                       tokenizer, std::move(stop),
                       data::ChatTemplate(tokenizer, make_chat_markers(config)).end_of_answer())
                 : make_completion_end(tokenizer, std::move(stop));
}

RunSources open_chat_data(const config::RunConfig& config) {
  RunSources sources;
  sources.tokenizer = load_tokenizer(config);
  const data::Tokenizer& tokenizer = *sources.tokenizer;
  sources.tokenizer_hash = tokenizer.hash();
  const data::ConversationDataOptions options = make_conversation_options(config);

  std::vector<data::SourceOptions> files;
  for (const config::Data::Source& source : config.data().train()) {
    files.push_back({"", {source.path()}, source.weight()});
  }
  const data::DocumentOrder order =
      config.data().shuffle() ? data::DocumentOrder::kShuffled : data::DocumentOrder::kAsStored;
  auto training = std::make_unique<data::ConversationData>(files, order, config.data().seed(),
                                                           tokenizer, options);
  sources.notes = describe_sources(*training, config);
  note_missing_tokens(config.data().chat(), tokenizer, sources.notes);
  for (const data::ConversationData::Source& source : training->sources()) {
    sources.contents.push_back(hexadecimal(source.conversations.contents()));
  }
  sources.training = std::move(training);

  if (config.data().validation_size() > 0) {
    const auto& paths = config.data().validation();
    auto held_out = std::make_unique<data::HeldOutConversations>(
        std::vector<std::filesystem::path>(paths.begin(), paths.end()), tokenizer, options);
    sources.notes.push_back(
        describe("held out", held_out->conversations(), options.sequence_length));
    sources.held_out = std::move(held_out);
  }
  sources.encode_prompt = make_chat_encoder(config, tokenizer);
  sources.completion_end = make_completion_end(config, tokenizer, true);
  return sources;
}

}  // namespace fathom::trainer
