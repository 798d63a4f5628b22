#!/bin/sh
# Every program of the bundle starts here, by its name: Open MPI and its helpers are told where they lie (hwloc's plugins are left out), and
# the CUDA toolkit is looked for in its usual place.
root=$(cd "${0%/*}/.." && pwd -P)
export OPAL_PREFIX="$root" OPAL_SYSCONFDIR="$root/etc/openmpi" PMIX_PKGLIBDIR="$root/lib/pmix" PMIX_PKGDATADIR="$root/share/pmix"
export HWLOC_PLUGINS_PATH="$root/lib/hwloc"
export FATHOM_SOURCE_DIR="$root"
# Without a remote shell mpirun refuses to start even what is local.
command -v ssh >/dev/null || command -v rsh >/dev/null || export OMPI_MCA_plm="^rsh"
case ":$LD_LIBRARY_PATH:" in
  *:/usr/local/cuda/lib64:/usr/local/cuda/lib:*) ;;
  *) export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}/usr/local/cuda/lib64:/usr/local/cuda/lib" ;;
esac
exec "$root/libexec/${0##*/}" "$@"
