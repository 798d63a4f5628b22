#!/usr/bin/env bash
# Makes text, a tokenizer of 4,096 tokens and token shards for a measured run: FOLDER/text.txt, FOLDER/tokenizer.json, FOLDER/train*.
#   scripts/gpu_data.sh PROGRAM FOLDER
set -euo pipefail
program=$1
folder=$2
mkdir -p "$folder"

# Words of random letters: what they say does not matter to a step's time, that tokens differ does (routing).
python3 - "$folder/text.txt" <<'TEXT'
import random, sys
random.seed(1)
words = ["".join(random.choices("abcdefghijklmnopqrstuvwxyz", k=random.randint(2, 9))) for _ in range(20000)]
with open(sys.argv[1], "w") as out:
    for _ in range(4000):
        out.write(" ".join(random.choices(words, k=300)) + "\n\n")
TEXT
"$program" train-tokenizer "$folder/text.txt" --vocab_size 4096 --output "$folder/tokenizer.json" >&2
"$program" tokenize "$folder/text.txt" --tokenizer "$folder/tokenizer.json" --output "$folder/train" >&2
