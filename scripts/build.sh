#!/usr/bin/env bash
# Builds Fathom on Debian 12 or Ubuntu 24.04, packages included. Usage: build.sh [PRESET]   (cpu, cuda, asan or tsan; default cpu)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
preset=${1:-cpu}

more=()
if [ "$preset" = cuda ]; then
  more=(--cuda)
fi
bash scripts/install_deps.sh ${more[@]+"${more[@]}"}
bash scripts/run_quietly.sh "configuring $preset" cmake --preset "$preset"
if [ -t 1 ]; then
  NINJA_STATUS="[%f/%t] " ninja -C "build/$preset"
else
  bash scripts/run_quietly.sh "building $preset" ninja -C "build/$preset"
fi
echo "$PWD/build/$preset/fathom"
