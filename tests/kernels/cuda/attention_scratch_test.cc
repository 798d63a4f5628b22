#include "kernels/cuda/attention_scratch.h"

#include "tests/support/catch.h"

namespace fathom::kernels::cuda {

TEST_CASE("The scratch of attention's backward: 2 bytes for each head, query and key") {
  CHECK(attention_scratch_bytes(16, 4096) == std::int64_t{512} << 20);
  CHECK(attention_scratch_bytes(3, 65) == 2 * 3 * 128 * 128);
  CHECK(ragged_batch_tokens(1) == 128);
  CHECK(ragged_batch_tokens(4096) == 4096);
  CHECK(ragged_batch_tokens(4097) == 8192);
}

TEST_CASE("Segments go to attention's backward a gibibyte of scratch at a time") {
  CHECK(segments_at_once(16, 4096) == 2);
  CHECK(segments_at_once(16, 2048) == 8);
  CHECK(segments_at_once(24, 2048) == 4);  // of 5 that would go
  CHECK(segments_at_once(128, 4096) == 1);
}

TEST_CASE("Segments whose scratch would be beyond 4 GiB are not for cuDNN") {
  CHECK(fits_attention_scratch(128, 4096));
  CHECK_FALSE(fits_attention_scratch(129, 4096));
  CHECK_FALSE(fits_attention_scratch(128, 4097));  // planned for 8,192
  CHECK(fits_attention_scratch(16, 8192));
  CHECK_FALSE(fits_attention_scratch(16, 131072));
}

}  // namespace fathom::kernels::cuda
