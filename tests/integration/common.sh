# Sourced by the integration tests: whole jobs under mpirun on a tiny model. Arguments of a test: PROGRAM SOURCE_DIR FOLDER.
set -uo pipefail
fathom=$1
source_dir=$2
folder=$3
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
data=$folder/data
config=$source_dir/configs/runs/tiny.textproto

fail() {
  echo "FAILED: $*" >&2
  [ -f "$folder/out" ] && cat "$folder/out" >&2
  exit 1
}

# launch RANKS RUN_FOLDER [ARGUMENT...]: one training job; output in $folder/out, exit code in $status.
launch() {
  local ranks=$1 run=$2
  shift 2
  mpirun --oversubscribe --bind-to none -n "$ranks" "$fathom" pretrain "$config" --set run.directory="$run" \
    --set "data.train[0].path=$data/train" "$@" >"$folder/out" 2>&1
  status=$?
}

expect_status() {
  [ "$status" -eq "$1" ] || fail "$2: exit code $status, wanted $1"
}

expect_text() {
  grep -q -F -- "$1" "$folder/out" || fail "$2: no \"$1\" in the output"
}

expect_once() {
  local count
  count=$(grep -c -F -- "$1" "$folder/out")
  [ "$count" -eq 1 ] || fail "$2: \"$1\" appears $count times in the output, wanted once"
}
