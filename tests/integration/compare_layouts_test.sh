#!/usr/bin/env bash
# The bits of a run: what metrics.jsonl says of them, and what scripts/compare_layouts.sh makes of it.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# compare [LAYOUT...]: output in $folder/out, exit code in $status.
compare() {
  FATHOM=$fathom bash "$source_dir/scripts/compare_layouts.sh" --steps 3 --set "data.train[0].path=$data/train" \
    --set numerics.mode=FAST "$config" "$@" >"$folder/out" 2>&1
  status=$?
}

what="hexadecimal numbers and the state's hash"
run=$folder/bits
rm -rf "$run"
launch 2 "$run" --set train.steps=4 --set checkpoint.interval=2
expect_status 0 "$what"
cp "$run/metrics.jsonl" "$folder/straight.jsonl"
python3 - "$run/metrics.jsonl" <<'PYTHON' || fail "$what"
import json, re, sys
*lines, end = [json.loads(line) for line in open(sys.argv[1])]
steps = [line for line in lines if "event" not in line]
assert [line["step"] for line in steps] == [1, 2, 3, 4]
for line in steps:
    for field in ("loss", "grad_norm"):
        assert float.fromhex(line[field + "_hex"]) == line[field], line
        assert re.fullmatch(r"0x1(\.[0-9a-f]+)?p[+-][0-9]+", line[field + "_hex"]), line
assert re.fullmatch("[0-9a-f]{16}", end["state_hash"]), end
PYTHON

what="a resume on the same layout"
launch 2 "$run" --set train.steps=4 --resume 2
expect_status 0 "$what"
python3 "$source_dir/scripts/first_difference.py" runs "$run" "$run" >/dev/null || fail "$what: first_difference.py"
bits() { grep -o -E '"(loss_hex|grad_norm_hex|state_hash)": "[^"]*"' "$1"; }
diff <(bits "$folder/straight.jsonl") <(bits "$run/metrics.jsonl") >"$folder/out" || fail "$what has other bits"

what="one layout, more threads and recomputation"
compare data=1 data=1,threads=2 data=1,train.recompute.layers=true,train.recompute.norms=true data=1
expect_status 0 "$what"
[ "$(grep -c 'same bits$' "$folder/out")" -eq 3 ] || fail "$what"

what="layouts that part"
compare data=1 data=1,threads=2 data=2
expect_status 1 "$what"
expect_text "same bits" "$what"
expect_text "parts at step 1: " "$what"
expect_text "A is data=1, B is data=2" "$what"
grep -q -E '^step 1, gradient of (model|lm_head)[a-z0-9_.]*weight: [0-9]+ of [0-9]+ elements differ$' "$folder/out" ||
  fail "$what: no tensor"
grep -q -E '^  first at row [0-9]+, column [0-9]+$' "$folder/out" || fail "$what: no element"
grep -q -E '^  A  -?0x[01][0-9a-f.]*p[+-][0-9]+ on rank 0$' "$folder/out" || fail "$what: no owner in A"
grep -q -E '^  B  -?0x[01][0-9a-f.]*p[+-][0-9]+ on rank [01]$' "$folder/out" || fail "$what: no owner in B"

what="a layout that cannot be"
compare data=1 tensor=3
expect_status 2 "$what"
expect_text "mesh.tensor (3)" "$what"
compare data=1 threds=2
expect_status 2 "$what"
expect_text "no axis threds" "$what"
exit 0
