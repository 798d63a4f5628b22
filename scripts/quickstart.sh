#!/usr/bin/env bash
# Trains a mixture-of-experts model on real English with 4 workers, in about 5 minutes on 2 cores, from a bare machine:
# packages, build, text, tokenizer, token shards, pretraining, and how well it compresses text that it never saw.
#
#   scripts/quickstart.sh [--text FILE] [--set PATH=VALUE]...
#
# --text FILE        a text of at least 10 MB, .txt or .jsonl, instead of the GCIDE dictionary (package dict-gcide, 40 MB)
# --set PATH=VALUE   any field of configs/runs/quickstart.textproto, e.g. another layout of the 4 workers:
#                    --set mesh.pipeline=1 --set mesh.tensor=2
set -euo pipefail
text=""
overrides=()
while [ $# -gt 0 ]; do
  case "$1" in
    --text) [ $# -ge 2 ] || { echo "quickstart.sh: --text needs a file" >&2; exit 93; }
            text=$(realpath "$2"); shift 2 ;;
    --set) [ $# -ge 2 ] || { echo "quickstart.sh: --set needs PATH=VALUE" >&2; exit 93; }
           overrides+=(--set "$2"); shift 2 ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 93 ;;
  esac
done
cd "$(dirname "${BASH_SOURCE[0]}")/.."

workers=4
run=runs/quickstart
data=$run/data
held_out_bytes=1000000
minimum_bytes=10000000

bash scripts/install_deps.sh
bash scripts/build.sh cpu
fathom=build/cpu/fathom
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
launch=(mpirun --oversubscribe --bind-to none -n "$workers")

rm -rf "$run"
mkdir -p "$data"
if [ -z "$text" ]; then
  text=$data/gcide.txt
  zcat /usr/share/dictd/gcide.dict.dz > "$text"
fi
bytes=$(stat -c %s "$text")
if [ "$bytes" -lt "$minimum_bytes" ]; then
  echo "quickstart.sh: $text has $bytes bytes; at least $minimum_bytes are needed" >&2
  exit 93
fi
extension=${text##*.}
[ "$extension" = jsonl ] || extension=txt

# The end of the text is held out, cut at a line.
head -c $((bytes - held_out_bytes)) "$text" > "$data/train.$extension"
tail -c "$held_out_bytes" "$text" | tail -n +2 > "$data/held-out.$extension"

"$fathom" train-tokenizer "$data/train.$extension" --vocab_size 4096 --output "$data/tokenizer.json"
"${launch[@]}" "$fathom" tokenize "$data/train.$extension" --tokenizer "$data/tokenizer.json" --output "$data/train"
"$fathom" tokenize "$data/held-out.$extension" --tokenizer "$data/tokenizer.json" --output "$data/held-out"

"${launch[@]}" "$fathom" pretrain configs/runs/quickstart.textproto "${overrides[@]}"

echo
echo "bits per byte on $(stat -c %s "$data/held-out.$extension") bytes of held-out text:"
bash scripts/compression_baseline.sh "$data/held-out.$extension"
python3 - "$run/metrics.jsonl" <<'PYTHON'
import json, sys
evals = [json.loads(line) for line in open(sys.argv[1]) if '"eval"' in line]
evals = [line for line in evals if line.get("event") == "eval"]
print(f"  fathom, before training   {evals[0]['bits_per_byte']:.3f}")
print(f"  fathom, after training    {evals[-1]['bits_per_byte']:.3f}")
PYTHON
echo
echo "metrics: $run/metrics.jsonl; curves: tensorboard --logdir $run/tensorboard; go on: see README.md"
