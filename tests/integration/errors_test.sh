#!/usr/bin/env bash
# Errors that a user meets: one clear message, once, and exit code 93 before anything is trained.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
run=$folder/errors
rm -rf "$run"

launch 2 "$run" --set train.stepz=3
expect_status 93 "unknown field"
expect_once "stepz" "unknown field"

launch 2 "$run" --set mesh.tensor=3
expect_status 93 "contradictory layout"
expect_text "mesh.tensor (3)" "contradictory layout"

launch 2 "$run" --set "data.train[0].path=$data/nothing"
expect_status 93 "missing data"
expect_once "$data/nothing" "missing data"

head -c 20000 "$data/train-00000-of-00001.h5" > "$data/cut.h5"
launch 2 "$run" --set "data.train[0].path=$data/cut.h5"
expect_status 93 "truncated data"
expect_once "cut.h5" "truncated data"

launch 2 "$run" --set model.vocab_size=256
expect_status 93 "vocabulary mismatch"
expect_text "256" "vocabulary mismatch"
[ -e "$run" ] && fail "a run folder was made for a run that cannot start"

# Found when the tokens are read, by both ranks: an error that a restart cannot mend all the same.
cp "$data"/train-00000-of-00001.h5 "$data/flipped.h5"
printf '\x55' | dd of="$data/flipped.h5" bs=1 seek=9000 conv=notrunc status=none
launch 2 "$run" --set "data.train[0].path=$data/flipped.h5"
expect_status 93 "damaged data"
expect_once "flipped.h5: damaged" "damaged data"
rm -rf "$run"

launch 2 "$run" --set train.steps=2
expect_status 0 "a run that can"
launch 2 "$run" --set train.steps=4 --set model.hidden_size=64
expect_status 93 "a checkpoint of another model"
expect_text "hidden_size" "a checkpoint of another model"

mpirun --oversubscribe --bind-to none -n 1 "$fathom" pretrain "$config" --set run.directory="$run" \
  --set "data.train[0].path=$data/train" --set train.steps=1000000 >"$folder/holder" 2>&1 &
holder=$!
for _ in $(seq 100); do grep -q "step" "$folder/holder" && break; sleep 0.1; done
launch 2 "$run" --set train.steps=4
kill "$holder"  # mpirun, which ends its rank
wait "$holder" 2>/dev/null
expect_status 93 "a run folder in use"
expect_once "$run" "a run folder in use"
exit 0
