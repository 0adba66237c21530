#!/usr/bin/env bash
# Makes target/gpu-bundle: the GPU tests and benchmarks as binaries that need an NVIDIA driver and glibc and nothing else.
# GOLDEN names a folder of golden files to take along, CLIP a video for the runs of the whole pipeline.
set -euo pipefail
cd "$(dirname "$0")/.."

bundle=target/gpu-bundle
benches/static_ffmpeg.sh
export PKG_CONFIG_PATH=$PWD/target/ffmpeg-static/lib/pkgconfig SLOMOD_REQUIRE_KERNELS=1
# A target folder of its own: FFmpeg is linked in another way there.
build=(--locked --release --features static-ffmpeg --target-dir target/gpu-build --message-format=json-render-diagnostics)

# Prints `NAME EXECUTABLE` for what was built.
executables() {
    python3 -c '
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable"):
        print(message["target"]["name"], message["executable"])'
}

rm -rf "$bundle"
mkdir -p "$bundle/golden"
{
    cargo test "${build[@]}" --no-run --test kernels
    # `cargo bench` knows no --release.
    cargo bench "${build[@]:0:1}" "${build[@]:2}" --no-run --bench gpu
} | executables | sort -u | grep -v "^slomod " | while read -r name path; do
    strip -o "$bundle/$name" "$path"
    # What the machine must have: the newest version of glibc that a symbol is of.
    printf '%s asks for %s\n' "$name" "$(objdump -T "$bundle/$name" | grep -o 'GLIBC_[0-9.]*' | sort -V | tail -n 1)"
    # To half its size: FFmpeg and the kernels are in both programs.
    gzip -9 -n "$bundle/$name"
done
cp benches/pytorch.py benches/pytorch_gpu.py benches/confined.py "$bundle/"
cp benches/gpu_check.sh "$bundle/gpu-check"
git rev-parse HEAD >"$bundle/REVISION" 2>/dev/null || true
size=$(du -sm "$bundle" | cut -f1)
if [ "$size" -ge 50 ]; then
    echo "$bundle: $size MB before anything was added; it should be under 50" >&2
    exit 1
fi
[ -z "${GOLDEN:-}" ] || cp "$GOLDEN"/rife_v4*.safetensors "$bundle/golden/"
[ -z "${CLIP:-}" ] || cp "$CLIP" "$bundle/clip.${CLIP##*.}"
chmod -R u+w "$bundle"
echo "$bundle: $(du -sm "$bundle" | cut -f1) MB; copy it to a machine with an NVIDIA driver and run ./gpu-check there"
