#!/usr/bin/env bash
# Installs every package that building, testing and the quickstart need, on Debian 12 or Ubuntu 24.04.
# Does nothing (and needs no root) when all of them are there already.
# With --cuda also the headers of cuDNN's frontend, for the user: ${XDG_CACHE_HOME:-~/.cache}/fathom/cudnn-frontend. The CUDA 13 toolkit
# with cuBLAS, cuDNN and NCCL is NVIDIA's to install.
set -euo pipefail

packages=(
  g++ cmake ninja-build ccache pkg-config git python3           # build
  openmpi-bin libopenmpi-dev                                    # launch, control plane, CPU transport
  libhdf5-dev                                                   # checkpoints, token shards
  protobuf-compiler libprotobuf-dev                             # configs, manifests, TensorBoard events
  libboost-program-options-dev                                  # command line
  libblis-serial-dev libhwy-dev                                 # matrix products, portable SIMD
  nlohmann-json3-dev libxxhash-dev                              # tokenizer.json, checksums
  libpcre2-dev libutf8proc-dev                                  # unusual splits, normalization of texts
  libgmp-dev                                                    # exact answers
  libboost-context-dev                                          # fibers of the emulated CUDA device in tests
  catch2 clang-format-19 clang-tidy-19 python3-h5py             # tests and checks
  clang-19 libclang-rt-19-dev                                   # libFuzzer
  patchelf xz-utils                                             # scripts/bundle.sh
  dict-gcide xz-utils gzip                                      # the quickstart's text and its rivals
)

with_cuda=
case "$*" in
  '') ;;
  --cuda)
    with_cuda=1
    python3 -m pip --version >/dev/null 2>&1 || packages+=(python3-pip)
    ;;
  *) echo "usage: install_deps.sh [--cuda]" >&2; exit 2 ;;
esac

# One wheel for every machine: only its headers are used.
install_cudnn_frontend() {
  local version=1.23.0 sha256=7bdae232a3071501012611fab14aae34dd16983205e56d3c1641317910fdd385
  local folder=${XDG_CACHE_HOME:-$HOME/.cache}/fathom/cudnn-frontend scratch
  [ "$(cat "$folder/version" 2>/dev/null)" = "$version" ] && return
  echo "installing: cuDNN frontend $version in $folder"
  scratch=$(mktemp -d)
  echo "nvidia-cudnn-frontend==$version --hash=sha256:$sha256" >"$scratch/requirements.txt"
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: --python-version 3.11 \
    --platform manylinux_2_28_x86_64 --dest "$scratch" --requirement "$scratch/requirements.txt"
  python3 -m zipfile -e "$scratch"/*.whl "$scratch/wheel"
  rm -rf "$folder"
  mkdir -p "$folder"
  mv "$scratch/wheel/include" "$folder/include"
  echo "$version" >"$folder/version"
  rm -r "$scratch"
}

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || echo none)
  [ "$status" = installed ] || missing+=("$package")
done

if [ ${#missing[@]} -gt 0 ]; then
  as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "install_deps.sh: as root, run: apt-get install ${missing[*]}" >&2; exit 1; }
    as_root=(sudo)
  fi
  echo "installing: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
if [ -n "$with_cuda" ]; then
  install_cudnn_frontend
fi
