#!/bin/sh
# Remove from a folder of Python packages what PyTorch opens on a GPU alone.
# PyTorch's own libraries are linked against some of NVIDIA's, and do not load without these; they are kept.
#   without-gpu-libraries.sh SITE_PACKAGES
set -eu
cd "$1"
kept=$(mktemp)
ldd torch/lib/libtorch_python.so torch/lib/libtorch_cuda.so | awk '$3 ~ /nvidia/ {print $3}' | xargs realpath | sort -u >"$kept"
find "$PWD/nvidia" -type f | grep -vxFf "$kept" | xargs rm -f
rm -rf triton cuda torch/include "$kept"
find nvidia -type d -empty -delete
