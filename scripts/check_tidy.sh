#!/usr/bin/env bash
# Runs clang-tidy, warnings as errors, over the .cc files that differ from a commit, new files included.
# Usage: check_tidy.sh [COMMIT] [FILE...]   COMMIT: default the merge base with origin/main, else HEAD~1
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

build=build/cpu
[ -f "$build/compile_commands.json" ] || cmake --preset cpu >/dev/null

if [ $# -gt 1 ]; then
  files=("${@:2}")
else
  base=${1:-$(git merge-base HEAD origin/main 2>/dev/null || true)}
  if [ -z "$base" ] || [ "$base" = "$(git rev-parse HEAD)" ]; then
    base=${1:-HEAD~1}
  fi
  mapfile -t files < <(
    { git diff --name-only --diff-filter=d "$base" -- '*.cc'
      git ls-files --others --exclude-standard -- '*.cc'; } | sort -u)
fi
[ ${#files[@]} -gt 0 ] || { echo "check_tidy.sh: no changed .cc files"; exit 0; }

# Headers that protoc writes must exist before anything that includes them can be read.
if grep -qs '\.pb\.h' "${files[@]}" || grep -rqs '\.pb\.h' configs; then
  ninja -C "$build" fathom_config_schema >/dev/null
fi
printf '%s\0' "${files[@]}" |
  xargs -0 -n 1 -P "$(nproc)" clang-tidy-19 -p "$build" --quiet --warnings-as-errors='*' 2> >(
    grep -v -E 'warnings? (generated|treated as)|^Suppressed|^Use -header-filter|^$' >&2)
echo "clang-tidy: ${#files[@]} files clean"
