#!/bin/sh
# Tests and measures slomod on the GPU of this machine: ./gpu-check [--marks] [OUT]
#
# --marks measures what the marks are judged by and nothing else: the network alone and PyTorch at 1920x1080.
#
# Needs an NVIDIA driver; python3 with PyTorch for the comparison with PyTorch; compute-sanitizer, where it is installed,
# looks for bad accesses and races. Golden files lie in golden/ beside this script, a clip of the caller's in clip.*.
# Logs and results.json go to OUT (default: results beside this script); a table is printed last.
# ONLY="network pipeline" ./gpu-check OUT takes these steps alone; BENCH_SIZES="1920x1080,..." are the sizes of slomod and
# PyTorch. What was measured stays in OUT where a run is cut off: ./gpu --bench summary OUT makes the table of it.
set -u
if [ "${1-}" = --marks ]; then
    shift
    export ONLY="network pytorch" BENCH_SIZES=1920x1080
fi
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/results}
mkdir -p "$out"
cd "$here" || exit 1
for program in gpu kernels; do
    [ -x "$program" ] || { gzip -dc "$program.gz" >"$program" && chmod +x "$program"; } || exit 1
done
export SLOMOD_TEST_DEVICE=cuda SLOMOD_GOLDEN="$here/golden"
: >"$out/steps"

# step NAME COMMAND...: runs it, notes how it ended (77: it cannot be done here) and how long it took; the log is OUT/NAME.log.
step() {
    name=$1
    shift
    case " ${ONLY-$name} " in *" $name "*) ;; *) return 0 ;; esac
    printf '== %s\n' "$name"
    start=$(date +%s)
    "$@" >"$out/$name.log" 2>&1
    rc=$?
    tail -n 15 "$out/$name.log"
    [ "$rc" -ne 77 ] || rc="skipped: see $name.log"
    printf '%s\t%s\t%s\n' "$name" "$rc" "$(($(date +%s) - start))" >>"$out/steps"
}

skip() {
    printf '== %s: skipped, %s\n' "$1" "$2"
    printf '%s\tskipped: %s\t0\n' "$1" "$2" >>"$out/steps"
}

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader >"$out/gpu.txt" 2>&1
cat "$out/gpu.txt"

# The benchmark is the command too: one binary less to carry.
slomod() { BENCH_AS_SLOMOD=1 ./gpu "$@"; }

step check slomod check
# What slomod.service takes from the program, and what its MemoryDenyWriteExecute= would: the whole service on a clip.
confined() {
    home=$(mktemp -d) && chmod 777 "$home" && cp gpu "$home/slomod" && cp confined.py "$home/" || return 1
    (
        cd "$home" || exit 1
        export BENCH_AS_SLOMOD=1 HOME="$home" CUDA_CACHE_PATH="$home/cuda"
        python3 confined.py "$@" ./slomod check && python3 confined.py "$@" ./slomod demo --dir "$home/demo" &&
            grep '"kind": "cuda"' demo/out/*.json && grep '"driver": "[0-9]' demo/out/*.json &&
            grep '"uuid": "GPU-' demo/out/*.json && grep '"gpu_mem_peak_bytes": [1-9]' demo/out/*.json
    )
    rc=$?
    rm -rf "$home"
    return $rc
}
if [ "$(id -u)" -eq 0 ] && command -v python3 >/dev/null; then
    step confined confined
    step confined-no-jit confined --no-jit
else
    skip confined "it needs root and python3"
fi
# What is left out: the stand-in for the driver, which the machine that built this bundle has tried.
step ops ./kernels --skip nvidia:: --test-threads 4 --nocapture
if [ -n "$(ls golden 2>/dev/null)" ]; then
    grep -qs skipped "$out/ops.log" && echo "note: part of the tests was skipped, see ops.log"
else
    skip goldens "no golden files in golden/"
fi
if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck initcheck synccheck; do
        step "$tool" compute-sanitizer --tool "$tool" --error-exitcode 9 ./gpu --bench small
    done
else
    skip sanitizer "compute-sanitizer is not installed"
fi
clock=$(nvidia-smi --query-gpu=clocks.max.sm --format=csv,noheader,nounits 2>/dev/null | head -n 1)
[ -z "$clock" ] || export BENCH_CLOCK_MHZ="$clock"
cp REVISION "$out/revision" 2>/dev/null
step network ./gpu --bench network --json "$out/network.json"
step kernels ./gpu --bench kernels --json "$out/kernels.json"
step sweep ./gpu --bench sweep --json "$out/sweep.json"
step large ./gpu --bench large --json "$out/large.json"
set -- clip.*
[ -f "$1" ] || set -- "$out/drawn.mp4"
step pipeline ./gpu --bench pipeline --json "$out/pipeline.json" "$1"
file_to_file() {
    [ -f "$1" ] || ./gpu --bench draw "$1" || return 1
    slomod convert "$1" --output "$out/out.mp4" --device cuda --factor 2 --report "$out/convert.json" --overwrite
}
for clip in "$@"; do
    step file-to-file file_to_file "$clip"
    rm -f "$out/out.mp4"
done
# Not every GPU has an encoder.
encode_on_gpu() {
    [ -f "$1" ] || ./gpu --bench draw "$1" || return 1
    slomod convert "$1" --output "$out/out.mp4" --device cuda --factor 2 --encode-on gpu --report "$out/encode-on-gpu.json" --overwrite &&
        return 0
    rm -f "$out/encode-on-gpu.json"
    ! grep -q 'nvenc.*does not open' "$out/encode-on-gpu.log" || return 77
}
step encode-on-gpu encode_on_gpu "$clip"
rm -f "$out/drawn.mp4" "$out/out.mp4"
if python3 -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null; then
    # Nine compilations: what is measured when the time is over counts.
    step pytorch timeout 1200 python3 pytorch_gpu.py "$out/pytorch.json"
else
    skip pytorch "no python3 with PyTorch that sees the GPU"
fi

./gpu --bench summary "$out"
! grep -qvE "$(printf '\t')(0|skipped.*)$(printf '\t')" "$out/steps"
