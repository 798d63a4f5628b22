#pragma once

#include <cstdint>
#include <string_view>

namespace fathom::data {

// What writer and reader of token shards agree on.
inline constexpr std::string_view kTokenShardFormat = "fathom token shard";
inline constexpr std::int64_t kTokenShardVersion = 1;
// 128 or 256 KiB: what the first sample of a block costs to check.
inline constexpr std::int64_t kChecksumBlockTokens = std::int64_t{1} << 16;

}  // namespace fathom::data
