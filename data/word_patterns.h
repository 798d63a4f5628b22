#pragma once

#include <memory>
#include <string>

#include "data/split_pattern.h"

namespace fathom::data {

// The expressions of GPT-2 (ByteLevel with use_regex of the `tokenizers` package), Llama-3, Qwen2
// and of DeepSeek-V3's words, as they stand in a tokenizer.json; V3's with escaped newlines.
inline constexpr std::string_view kGpt2Regex =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kLlama3Regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kQwen2Regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kDeepSeekV3WordsRegex =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
// DeepSeek-V2's, for white space at the end of a line.
inline constexpr std::string_view kSpaceAtEndRegex = R"(\s+$)";

// A scanner for one of these; nullptr for any other expression. Newlines of `regex` are escaped.
std::shared_ptr<const SplitPattern> make_word_pattern(
    const std::string& regex, const std::shared_ptr<const UnicodeClasses>& classes);

}  // namespace fathom::data
