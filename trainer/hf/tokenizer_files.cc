#include "trainer/hf/tokenizer_files.h"

#include <nlohmann/json.hpp>
#include <span>

#include "core/error.h"

namespace fathom::trainer {
namespace {

// "" when there is no such token.
std::string text_of(const data::Tokenizer& tokenizer, std::int32_t token) {
  return token < 0 ? "" : tokenizer.decode(std::span(&token, 1));
}

// A string of JSON is one of Jinja, too, as long as only control characters are escaped by number.
std::string quoted(const std::string& text) { return nlohmann::json(text).dump(); }

}  // namespace

std::string chat_template_jinja(const data::Tokenizer& tokenizer,
                                const data::ChatMarkers& markers) {
  const data::SpecialTokenIds& ids = tokenizer.special_tokens();
  const std::string begin = markers.begin.value_or(text_of(tokenizer, ids.bos));
  const std::string end = markers.end.value_or(text_of(tokenizer, ids.eos));
  const std::string prompt_end = data::without_spaces_at_end(markers.assistant);
  return concat("{{ ", quoted(begin),
                " }}{% for message in messages %}{% if message['role'] == 'system' %}{{ ",
                quoted(markers.system), " + message['content'] + ", quoted(markers.system_end),
                " }}{% elif message['role'] == 'user' %}{{ ", quoted(markers.user),
                " + message['content'] }}{% else %}{{ ", quoted(markers.assistant),
                " + message['content'] + ", quoted(end),
                " }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ ", quoted(prompt_end),
                " }}{% endif %}");
}

std::string generation_config_json(const data::Tokenizer& tokenizer) {
  const data::SpecialTokenIds& ids = tokenizer.special_tokens();
  nlohmann::ordered_json out;
  out["_from_model_config"] = true;
  if (ids.bos >= 0) {
    out["bos_token_id"] = ids.bos;
  }
  if (ids.eos >= 0) {
    out["eos_token_id"] = ids.eos;
  }
  return out.dump(2) + '\n';
}

std::string tokenizer_config_json(const data::Tokenizer& tokenizer,
                                  const data::ChatMarkers& markers, data::DocumentStart start,
                                  std::int64_t max_position) {
  const data::SpecialTokenIds& ids = tokenizer.special_tokens();
  nlohmann::ordered_json out;
  out["add_bos_token"] = data::token_before(tokenizer, start).has_value();
  out["add_eos_token"] = false;
  for (const auto& [name, token] :
       {std::pair("bos_token", ids.bos), std::pair("eos_token", ids.eos),
        std::pair("pad_token", ids.pad >= 0 ? ids.pad : ids.eos)}) {
    if (token >= 0) {
      out[name] = text_of(tokenizer, token);
    }
  }
  out["clean_up_tokenization_spaces"] = false;
  out["model_max_length"] = max_position;
  out["tokenizer_class"] = "PreTrainedTokenizerFast";
  out["chat_template"] = chat_template_jinja(tokenizer, markers);
  return out.dump(2) + '\n';
}

}  // namespace fathom::trainer
