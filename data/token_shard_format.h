#pragma once

#include <cstdint>
#include <string_view>

namespace fathom::data {

// What writer and reader of token shards agree on.
inline constexpr std::string_view kTokenShardFormat = "fathom token shard";
inline constexpr std::int64_t kTokenShardVersion = 1;
// 8 or 16 KiB: what is read and checked to read any token. A shard says how many it has.
inline constexpr std::int64_t kChecksumBlockTokens = std::int64_t{1} << 12;

}  // namespace fathom::data
