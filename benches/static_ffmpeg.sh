#!/usr/bin/env bash
# Builds the distribution's own FFmpeg source as static libraries in target/ffmpeg-static, with what a benchmark clip
# needs and nothing else: for binaries that run where FFmpeg is not installed. Does nothing where it is there already.
set -euo pipefail
cd "$(dirname "$0")/.."

prefix=$PWD/target/ffmpeg-static
[ -f "$prefix/done" ] && exit 0
work=$PWD/target/ffmpeg-source
rm -rf "$work" "$prefix"
mkdir -p "$work/lists/partial"
cd "$work"

# Source packages need `deb-src` entries; a list of our own leaves the system's alone.
for list in /etc/apt/sources.list.d/{debian,ubuntu}.sources; do
    [ -f "$list" ] && sed 's/^Types:.*/Types: deb-src/' "$list" >sources.sources
done
[ -f /etc/apt/sources.list ] && sed -n 's/^deb /deb-src /p' /etc/apt/sources.list >sources.list
list=sources.list
[ -f sources.sources ] && list=sources.sources
apt=(apt-get -q -o "Dir::Etc::sourcelist=$work/$list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$work/lists")
"${apt[@]}" update
"${apt[@]}" source --download-only ffmpeg
tar xf ffmpeg_*.orig.tar.xz
cd ffmpeg-*/

join() { local IFS=,; echo "$*"; }
./configure --prefix="$prefix" --enable-static --disable-shared --enable-pic --disable-programs --disable-doc \
    --disable-debug --disable-autodetect --disable-network --disable-everything --enable-gpl --enable-libx264 \
    --enable-ffnvcodec --enable-nvenc \
    --enable-protocol=file,pipe \
    --enable-demuxer="$(join mov matroska mpegts avi wav)" --enable-muxer="$(join mov mp4 matroska)" \
    --enable-decoder="$(join h264 hevc mpeg4 mjpeg ffv1 aac pcm_s16le)" --enable-parser="$(join h264 hevc mpeg4video aac)" \
    --enable-encoder="$(join libx264 h264_nvenc hevc_nvenc ffv1 aac pcm_s16le)" \
    --enable-bsf="$(join h264_mp4toannexb hevc_mp4toannexb aac_adtstoasc extract_extradata)" \
    --enable-filter="$(join abuffer abuffersink aformat aresample anull buffer buffersink format scale null)" \
    --enable-avfilter --enable-swscale --enable-swresample >configure.log
make -j"$(nproc)" >make.log
make install >install.log
# Found before the shared one, because this folder is searched first.
cp "$(pkg-config --variable=libdir x264)/libx264.a" "$prefix/lib/"
touch "$prefix/done"
