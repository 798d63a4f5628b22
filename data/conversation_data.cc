#include "data/conversation_data.h"

#include "core/error.h"
#include "core/rng.h"
#include "data/permutation.h"

namespace fathom::data {
namespace {

std::vector<ConversationData::Source> read_sources(const std::vector<SourceOptions>& sources,
                                                   const Tokenizer& tokenizer,
                                                   const ConversationDataOptions& options) {
  const ChatTemplate chat(tokenizer, options.markers);
  std::vector<ConversationData::Source> read;
  std::vector<std::string> names;
  for (const SourceOptions& source : sources) {
    names.push_back(name_of(source, names));
    read.push_back({names.back(), ConversationSet(source.paths, tokenizer, chat,
                                                  options.sequence_length, options.too_long)});
  }
  return read;
}

}  // namespace

ConversationData::ConversationData(const std::vector<SourceOptions>& sources, DocumentOrder order,
                                   std::uint64_t seed, const Tokenizer& tokenizer,
                                   const ConversationDataOptions& options)
    : order_(order),
      seed_(seed),
      sources_(read_sources(sources, tokenizer, options)),
      mixture_(weights_of(sources)),
      text_bytes_per_token_(tokenizer.text_bytes_per_token()),
      builder_(options.sequence_length, options.mtp_depth, Segments::kDocuments,
               text_bytes_per_token_) {}

std::int64_t ConversationData::sequence_of(const Source& source, std::int64_t index) const {
  const std::int64_t num_sequences = source.conversations.num_sequences();
  const std::int64_t epoch = index / num_sequences;
  const std::int64_t place = index % num_sequences;
  if (order_ == DocumentOrder::kAsStored) {
    return place;
  }
  const RandomSource random(seed_,
                            concat("data/conversation_order/", source.name, "/epoch/", epoch));
  return IndexPermutation(num_sequences, random)(place);
}

void ConversationData::read(std::int64_t first_sample, std::int64_t count,
                            MicroBatch& batch) const {
  builder_.begin(count, batch);
  Window window;
  for (std::int64_t i = 0; i < count; ++i) {
    const Mixture::Place place = mixture_.at(first_sample + i);
    const Source& source = sources_[static_cast<std::size_t>(place.source)];
    source.conversations.read(sequence_of(source, place.index), builder_.window_tokens(), window);
    builder_.fill(i, first_sample + i, window, batch);
  }
}

HeldOutConversations::HeldOutConversations(const std::vector<std::filesystem::path>& files,
                                           const Tokenizer& tokenizer,
                                           const ConversationDataOptions& options)
    : conversations_(files, tokenizer, ChatTemplate(tokenizer, options.markers),
                     options.sequence_length, options.too_long),
      text_bytes_per_token_(tokenizer.text_bytes_per_token()),
      builder_(options.sequence_length, options.mtp_depth, Segments::kDocuments,
               text_bytes_per_token_) {}

void HeldOutConversations::read(std::int64_t first, std::int64_t count, MicroBatch& batch) const {
  builder_.begin(count, batch);
  Window window;
  for (std::int64_t i = 0; i < count; ++i) {
    if (first + i < conversations_.num_sequences()) {
      conversations_.read(first + i, builder_.window_tokens(), window);
    } else {
      conversations_.read_padding(builder_.window_tokens(), window);
    }
    builder_.fill(i, first + i, window, batch);
  }
}

}  // namespace fathom::data
