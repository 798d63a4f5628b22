#!/usr/bin/env bash
# Names every tracked C++ file that is not formatted as .clang-format says, and every script of scripts/ that cannot be started as the
# documents start it; exits 1 if there is one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

not_executable=$(find scripts -maxdepth 1 -name '*.sh' ! -perm -u+x)
[ -z "$not_executable" ] || { echo "not executable; run: chmod +x" $not_executable; exit 1; }

git -c safe.directory='*' ls-files -z -- '*.h' '*.cc' '*.cu' '*.cuh' |
  xargs -0 -r -n 1 -P "$(nproc)" bash -c '
    [ ! -f "$1" ] || clang-format-19 --dry-run -Werror "$1" >/dev/null 2>&1 ||
      { echo "not formatted; run: clang-format-19 -i $1"; exit 1; }' check_format
