#!/usr/bin/env bash
# The recipe of DeepSeek-R1 (arXiv:2501.12948) with a model of 0.4M weights on a built-in task, on 2 cores: a base model; R1-Zero's
# reinforcement learning on it; and R1: cold start, reinforcement, rejection sampling, fine-tuning, reinforcement. Ends in a table of
# held-out solve rates. Needs scripts/install_deps.sh and scripts/build.sh before it.
#
# What an earlier run of it left in runs/r1 is removed.
#
#   scripts/r1_recipe.sh [--workers N] [--set PATH=VALUE]...     PATH=VALUE goes to all stages, e.g. --set mesh.tensor=2
set -euo pipefail
workers=2
overrides=()
while [ $# -gt 0 ]; do
  case "$1" in
    --workers) [ $# -ge 2 ] || { echo "r1_recipe.sh: --workers needs a number" >&2; exit 93; }
               workers=$2; shift 2 ;;
    --set) [ $# -ge 2 ] || { echo "r1_recipe.sh: --set needs PATH=VALUE" >&2; exit 93; }
           overrides+=(--set "$2"); shift 2 ;;
    *) sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 93 ;;
  esac
done
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fathom=build/cpu/fathom
configs=configs/runs/r1
data=runs/r1/data
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
launch=(mpirun --oversubscribe --bind-to none -n "$workers")
problems() { "$fathom" problems sorting --difficulty 6 "$@"; }
stage() {  # COMMAND CONFIG
  echo "== $2"
  "${launch[@]}" "$fathom" "$1" "$configs/$2.textproto" "${overrides[@]}"
}

rm -rf runs/r1
mkdir -p "$data"
problems --count 20000 --seed 1 --text --output "$data/answers.jsonl"
problems --count 20000 --seed 2 --text --worked --output "$data/solutions.jsonl"
problems --count 400 --seed 3 --worked --output "$data/cold-start.jsonl"
"$fathom" train-tokenizer "$data/solutions.jsonl" --vocab_size 262 --output "$data/tokenizer.json"
for name in answers solutions; do
  "$fathom" tokenize "$data/$name.jsonl" --tokenizer "$data/tokenizer.json" --output "$data/$name"
done

stage pretrain base
stage grpo zero
stage sft cold-start
stage grpo reason
echo "== rejection sampling"
"${launch[@]}" "$fathom" evaluate runs/r1/reason --family sorting --difficulty 6 --count 1000 --problem_seed 4 --samples 4 --k 1,4 \
  --extract tagged --max_new_tokens 104 --batch 128 --accepted "$data/accepted.jsonl" --accepted_per_problem 2
echo "$(wc -l < "$data/accepted.jsonl") completions accepted"
stage sft rejection-sft
stage grpo final

measure() {  # RUN TEMPLATE
  "${launch[@]}" "$fathom" evaluate "runs/r1/$1" --family sorting --difficulty 6 --count 256 --split held_out --samples 4 --k 1,4 \
    --extract tagged --max_new_tokens 104 --batch 128 --template "$2" --json "$data/$1.json" > /dev/null
}
measure base '{prompt}<think>'
measure zero '{prompt}<think>'
for run in cold-start reason rejection-sft final; do
  measure "$run" '{prompt}'
done
echo
python3 - "$data" <<'PYTHON'
import json, sys
print(f"{'held-out problems':26}{'solved':>8}{'pass@4':>8}{'tokens':>8}")
for run, words in (("base", "base"), ("zero", "R1-Zero: GRPO on the base"), ("cold-start", "R1: cold start"),
                   ("reason", "R1: GRPO"), ("rejection-sft", "R1: rejection sampling"), ("final", "R1: GRPO once more")):
    scores = json.load(open(f"{sys.argv[1]}/{run}.json"))["problems"]
    print(f"{words:26}{100 * scores['pass_at']['1']['mean']:7.1f}%{100 * scores['pass_at']['4']['mean']:7.1f}%"
          f"{scores['mean_tokens']:8.1f}")
PYTHON
