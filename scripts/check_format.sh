#!/usr/bin/env bash
# Names every tracked C++ file that is not formatted as .clang-format says; exits 1 if there is one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

git -c safe.directory='*' ls-files -z -- '*.h' '*.cc' '*.cu' '*.cuh' |
  xargs -0 -r -n 1 -P "$(nproc)" bash -c '
    [ ! -f "$1" ] || clang-format-19 --dry-run -Werror "$1" >/dev/null 2>&1 ||
      { echo "not formatted; run: clang-format-19 -i $1"; exit 1; }' check_format
