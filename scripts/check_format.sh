#!/usr/bin/env bash
# Checks that every tracked C++ file is formatted as .clang-format says. To mend: clang-format-19 -i FILE.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

git -c safe.directory='*' ls-files -z -- '*.h' '*.cc' '*.cu' '*.cuh' |
  xargs -0 -r -n 16 -P "$(nproc)" clang-format-19 --dry-run -Werror
