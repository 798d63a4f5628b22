#!/usr/bin/env bash
# English text, a tokenizer and token shards for the tests that follow.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
rm -rf "$folder"
mkdir -p "$data"
cat /usr/share/common-licenses/GPL-3 /usr/share/common-licenses/LGPL-2.1 > "$data/train.txt"
cp /usr/share/common-licenses/Apache-2.0 "$data/held-out.txt"
"$fathom" train-tokenizer "$data/train.txt" --vocab_size 512 --output "$data/tokenizer.json" || fail train-tokenizer
"$fathom" tokenize "$data/train.txt" --tokenizer "$data/tokenizer.json" --output "$data/train" || fail tokenize
"$fathom" tokenize "$data/held-out.txt" --tokenizer "$data/tokenizer.json" --output "$data/held-out" || fail tokenize
# Several ranks write the same shards, bit for bit.
mpirun --oversubscribe -n 3 "$fathom" tokenize "$data/train.txt" --tokenizer "$data/tokenizer.json" \
  --output "$data/again" || fail "tokenize on 3 ranks"
cmp "$data"/train-00000-of-*.h5 "$data"/again-00000-of-*.h5 || fail "shards depend on the number of ranks"
