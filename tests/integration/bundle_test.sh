#!/usr/bin/env bash
# A packed program trains in an environment that knows nothing, from another folder than it was packed in, with its own mpirun; nothing but glibc is
# loaded from this machine.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
what="bundle"
packed=$folder/packed
moved=$folder/moved
rm -rf "$packed" "$packed.tar.xz" "$moved" "$folder/bundle-run" "$folder"/loaded.*
bash "$source_dir/scripts/bundle.sh" "$(dirname "$fathom")" "$packed" >"$folder/out" 2>&1 || fail "scripts/bundle.sh"
mkdir "$moved"
tar -C "$moved" -xf "$packed.tar.xz"
rm -rf "$packed" "$packed.tar.xz"
cd "$moved" || fail "no $moved"

env -i PATH=/nowhere OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 LD_DEBUG=files LD_DEBUG_OUTPUT="$folder/loaded" \
  packed/bin/mpirun --oversubscribe --bind-to none -n 2 packed/bin/fathom pretrain packed/configs/runs/tiny.textproto --set train.steps=3 \
  --set run.directory="$folder/bundle-run" --set "data.train[0].path=$data/train" >"$folder/out" 2>&1 </dev/null
status=$?
expect_status 0 "$what"
grep -q '"step": 3' "$folder/bundle-run/metrics.jsonl" || fail "$what: no third step in metrics.jsonl"

# The shell that starts a program is the machine's own, too.
from_elsewhere=$(sed -n 's/.*calling init: //p' "$folder"/loaded.* | sort -u |
  grep -v -E "^$moved/packed/|/(ld-linux-x86-64|lib(c|m|dl|rt|pthread|resolv|util))[.]so[.][0-9]+$")
[ -z "$from_elsewhere" ] || fail "$what: loaded from outside of it: $from_elsewhere"
grep -q "calling init: $moved/packed/.*/mca_btl_" "$folder"/loaded.* || fail "$what: no plugin of Open MPI was loaded from it"
rm -rf "$moved" "$folder"/loaded.*
