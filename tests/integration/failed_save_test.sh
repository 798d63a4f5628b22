#!/usr/bin/env bash
# A checkpoint that cannot be written ends the job with one message and exit code 1; the one before stays and is gone on from.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# expect_failed_save TEXT...: the job has ended so, and a resume from what is published works.
expect_failed_save() {
  expect_status 1 "$what"
  expect_once "could not be written" "$what"
  local text
  for text in "$@" "which is whole"; do
    expect_once "$text" "$what"
  done
  [ -z "$(find "$run" -name 'step-*.tmp-*')" ] || fail "$what: leaves its temporary folder"
  resumes
}

# mount_small SIZE: a small file system at $folder/small.
small=$folder/small
mount_small() {
  [ "$(id -u)" -eq 0 ] && mkdir -p "$small" && mount -t tmpfs -o "size=$1" tmpfs "$small" || return 1
  trap 'umount "$small"; umount "$small" 2>/dev/null' EXIT
}

what="a limit of the file size on one rank"
start 2 "$folder/limited_size"
prlimit --pid "$(rank_pid 1)" --fsize=65536
finish 30
expect_failed_save "rank 1: reserve" "rank-00001.h5: File too large"

if ! mount_small 8m; then
  echo "no right to mount a small file system: a full and a read-only one are not tested"
  exit 0
fi
what="a full disk"
start 2 "$small/run" --set checkpoint.interval=2 --set checkpoint.keep_last=0
finish 60
mv "$run" "$folder/rescued"
run=$folder/rescued
expect_failed_save "No space left on device (" " bytes are free on its file system)" ": rank "

what="a folder that became read-only"
mkdir "$folder/read_only"
ln -s "$small" "$folder/read_only/checkpoints"
start 2 "$folder/read_only"
# Mounted over it while no save is under way: the job's open lock keeps it from being made read-only itself.
rank_0=$(rank_pid 0)
while kill -STOP "$rank_0" && [ -n "$(find "$small" -name 'step-*.tmp-*')" ]; do
  kill -CONT "$rank_0"
  sleep 0.05
done
mount -t tmpfs -o ro tmpfs "$small" || fail "$what: no read-only file system can be mounted"
kill -CONT "$rank_0"
finish 60
umount "$small"
expect_failed_save "Read-only file system"
exit 0
