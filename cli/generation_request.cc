#include "cli/generation_request.h"

#include <limits>

#include "core/error.h"
#include "trainer/chat_data.h"
#include "trainer/factory.h"

namespace fathom::cli {

namespace {

model::CacheForm parse_cache(const std::string& text) {
  if (text == "expanded") {
    return model::CacheForm::kExpanded;
  }
  if (text == "latent") {
    return model::CacheForm::kLatent;
  }
  throw ConfigError(concat("--cache ", text, ": want expanded or latent"));
}

}  // namespace

trainer::CompletionEnd GenerationRequest::end_for(const StoredModel& stored) const {
  return trainer::make_completion_end(stored.config, *stored.tokenizer, is_chat, stop);
}

trainer::GenerationOptions GenerationRequest::options_for(const StoredModel& stored,
                                                          const trainer::CompletionEnd& end) const {
  trainer::GenerationOptions result = options;
  result.cache = cache.value_or(trainer::make_cache_form(stored.config));
  if (result.cache == model::CacheForm::kLatent &&
      stored.config.numerics().mode() == config::Numerics::EXACT) {
    throw ConfigError(
        "--cache latent: the run's numerics.mode is EXACT, which promises the log-probabilities of "
        "the training forward bit for bit, and attention to latents sums in another order; take "
        "--cache expanded, or add --set numerics.mode=FAST");
  }
  result.uses_graphs = stored.config.run().cuda_graphs();
  result.seed = seed.value_or(stored.config.run().seed());
  trainer::set_vocabulary(*stored.tokenizer, end, result);
  return result;
}

std::vector<OptionSpec> generation_option_specs() {
  return {{"samples"},
          {"max_new_tokens"},
          {"temperature"},
          {"top_k"},
          {"top_p"},
          {"stop", OptionSpec::Kind::kValues},
          {"seed"},
          {"batch"},
          {"cache"},
          {"cache_tokens"},
          {"chat", OptionSpec::Kind::kFlag}};
}

GenerationRequest read_generation_request(const ParsedOptions& given) {
  constexpr std::int64_t kMany = std::int64_t{1} << 30;
  GenerationRequest request;
  const auto read = [&](const char* name, std::int64_t& value) {
    if (given.has(name)) {
      value = given.integer(name, 1, kMany);
    }
  };
  read("samples", request.num_samples);
  read("max_new_tokens", request.options.max_new_tokens);
  read("batch", request.options.max_sequences);
  read("cache_tokens", request.options.cache_tokens);
  kernels::SamplingOptions& sampling = request.options.sampling;
  if (given.has("top_k")) {
    sampling.top_k = static_cast<int>(given.integer("top_k", 1, kMany));
  }
  if (given.has("temperature")) {
    sampling.temperature = static_cast<float>(given.number("temperature", 0.0, 1e6));
  }
  if (given.has("top_p")) {
    sampling.top_p = static_cast<float>(given.number("top_p", 1e-9, 1.0));
  }
  if (given.has("seed")) {
    request.seed = static_cast<std::uint64_t>(
        given.integer("seed", 0, std::numeric_limits<std::int64_t>::max()));
  }
  if (given.has("cache")) {
    request.cache = parse_cache(given.required("cache"));
  }
  request.stop = given.values("stop");
  request.is_chat = given.has("chat");
  return request;
}

}  // namespace fathom::cli
