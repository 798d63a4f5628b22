#!/usr/bin/env bash
# The whole road in small, on 2 cores and from a bare machine: packages, build; then in about 10 minutes a mixture-of-experts model
# that 4 workers pretrain on real English and on problems, how well it compresses text that it never saw, and reinforcement learning
# that lifts its solve rate on problems that it never saw.
#
#   scripts/quickstart.sh [--text FILE] [--set PATH=VALUE]...
#
# --text FILE        a text of at least 10 MB, plain or JSON lines (.jsonl), instead of the GCIDE dictionary (package dict-gcide, 40 MB)
# --set PATH=VALUE   any field of configs/runs/quickstart.textproto, the pretraining, e.g. another layout of the 4 workers:
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
    *) sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 93 ;;
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
case "$text" in
  *.jsonl | *.ndjson | *.json) extension=jsonl ;;
  *) extension=txt ;;
esac

# The end of the text is held out, cut at a line.
head -c $((bytes - held_out_bytes)) "$text" > "$data/train.$extension"
[ "$extension" = txt ] || sed -i '$d' "$data/train.$extension"  # half a line is no JSON
tail -c "$held_out_bytes" "$text" | tail -n +2 > "$data/held-out.$extension"

problems=(sorting --difficulty 7)
"$fathom" problems "${problems[@]}" --count 40000 --text --worked --output "$data/problems.jsonl"

"$fathom" train-tokenizer "$data/train.$extension" "$data/problems.jsonl" --vocab_size 2048 --output "$data/tokenizer.json"
for name in "train.$extension" problems.jsonl; do
  "${launch[@]}" "$fathom" tokenize "$data/$name" --tokenizer "$data/tokenizer.json" --output "$data/${name%.*}"
done
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

base=$(ls -d "$run"/checkpoints/step-* | tail -1)
echo
"${launch[@]}" "$fathom" grpo configs/runs/quickstart-grpo.textproto --resume none --set "train.init_from=$base"

measure() {  # CHECKPOINT_OR_RUN NAME
  "${launch[@]}" "$fathom" evaluate "$1" --family "${problems[@]}" --count 256 --split held_out --samples 4 --k 1,4 --extract tagged \
    --template '{prompt}<think>' --max_new_tokens 80 --batch 128 --json "$data/$2.json" --output "$data/$2.jsonl" > /dev/null
}
measure "$base" before
measure "$run/grpo" after
echo
python3 - "$data" <<'PYTHON'
import json, sys
print(f"{'held-out problems':28}{'solved':>8}{'pass@4':>8}{'maj@4':>8}")
for name, words in (("before", "base model"), ("after", "after reinforcement")):
    scores = json.load(open(f"{sys.argv[1]}/{name}.json"))["problems"]
    mean = lambda kind, k: f"{100 * scores[kind][k]['mean']:7.1f}%"
    print(f"{words:28}{mean('pass_at', '1')}{mean('pass_at', '4')}{mean('majority_at', '4')}")
before, after = ([json.loads(line) for line in open(f"{sys.argv[1]}/{name}.jsonl")] for name in ("before", "after"))
for i in (0, 4, 8):
    print(f"\n  {before[i]['prompt'].splitlines()[0]}\n    base model           {before[i]['completion'].strip()}  ({before[i]['verdict']})"
          f"\n    after reinforcement  {after[i]['completion'].strip()}  ({after[i]['verdict']})")
PYTHON
echo
echo "metrics: $run/metrics.jsonl and $run/grpo/metrics.jsonl; curves: tensorboard --logdir $run; samples: $run/grpo/samples; go on: README.md"
