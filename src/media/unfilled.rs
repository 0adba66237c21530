//! Whether the pictures and the sound that an index promises are there, or zeros: space that was reserved, or left out of a
//! sparse copy, and not filled. An index behind them says nothing of that: it may have been written before.
//!
//! What can be told: of MP4, MOV and AVI the index gives the place of every sample, so the furthest of each stream is looked
//! at, and some before it. The index of Matroska gives that of some clusters, from the furthest of which the rest of the file
//! is followed. H.264 and H.265 never have three zero bytes in a row, so of these any run of zeros in the last sample counts;
//! of VP8, VP9 and AV1 one of a page of memory or at the end; of other codecs, which may fill samples up with zeros, only one
//! at the start. What is within the last sample of those, and streams that are neither pictures nor sound, cannot be told.

use std::fs::File;
use std::io;

use ffmpeg_next as ffmpeg;

use ffmpeg::format::context::Input;
use ffmpeg::media::Type;

use super::complete::{Missing, ZERO_TAIL, element, is_zero, read_some};
use super::raw::{self, Extent};

/// Samples of a stream that are looked at, evenly spread.
const SAMPLES: usize = 256;
/// Bytes of a sample that are looked at: no compressed picture has so many zeros at its start.
const ZEROS: usize = 64;
/// Samples with fewer bytes than these tell nothing: silence, or a picture as the one before.
const LEAST: usize = 8;
/// Bytes of a last sample, or of a last cluster, that are searched.
const MOST_SEARCHED: u64 = 16 << 20;
/// Zeros in a row that no compressed stream has by chance: the least that file systems leave out.
const LONG_RUN: usize = 4096;
/// Codecs whose samples may well be zeros: black pictures.
const UNCOMPRESSED: [&str; 13] = [
    "rawvideo",
    "v210",
    "v308",
    "v408",
    "v410",
    "r10k",
    "r210",
    "yuv4",
    "ayuv",
    "bitpacked",
    "huffyuv",
    "ffvhuff",
    "utvideo",
];
/// Codecs whose samples do not end in zeros; others fill theirs up with them.
const UNPADDED: [&str; 5] = ["h264", "hevc", "av1", "vp8", "vp9"];
/// Codecs that forbid three zero bytes in a row (ITU-T H.264 and H.265, 7.4.1).
const WITHOUT_RUNS: [&str; 2] = ["h264", "hevc"];
/// Codecs of sound whose samples do not begin with zeros.
const SOUND: [&str; 5] = ["aac", "mp3", "ac3", "eac3", "flac"];
/// Those that may, and have no long runs of them.
const OTHER_SOUND: [&str; 2] = ["opus", "vorbis"];
/// What a chunk of AVI has before its sample: name and size.
const CHUNK_HEADER: u64 = 8;
/// Name of a cluster of Matroska.
pub(super) const CLUSTER: [u8; 4] = [0x1F, 0x43, 0xB6, 0x75];
/// Elements that are followed from the last known cluster on.
const MOST_ELEMENTS: usize = 1024;

type Found = io::Result<Result<(), Missing>>;

fn miss(code: &'static str, reason: impl Into<String>) -> Found {
    Ok(Err(Missing { code, reason: reason.into() }))
}

/// Whether black pictures or silence of a stream are zeros.
pub(super) fn may_be_zeros(input: &Input, index: usize) -> bool {
    let facts = raw::stream_facts(input, index);
    facts
        .is_some_and(|it| UNCOMPRESSED.contains(&it.codec.as_str()) || it.codec.starts_with("pcm_"))
}

/// Looks whether the samples of the index of an MP4 or MOV lie within its `length` bytes and are not zeros.
pub(super) fn samples_of_mov(file: &File, length: u64, input: &mut Input) -> Found {
    for index in 0..input.streams().count() {
        let extents = raw::index_extents(input, index);
        let beyond = extents.iter().filter(|it| it.end() > length).count();
        if beyond > 0 {
            let all = extents.len();
            let stream = format!("{beyond} of the {all} samples of stream {index}");
            return miss("truncated_mdat", format!("{stream} lie beyond its {length} bytes"));
        }
        if let Err(missing) = filled(file, input, index, &extents)? {
            return Ok(Err(missing));
        }
    }
    Ok(Ok(()))
}

/// Looks whether the samples of the index of an AVI are not zeros.
pub(super) fn samples_of_avi(file: &File, length: u64, input: &mut Input) -> Found {
    for index in 0..input.streams().count() {
        let sample = |it: Extent| Extent { at: it.at.saturating_add(CHUNK_HEADER), ..it };
        let extents = raw::index_extents(input, index).into_iter().map(sample);
        // Cameras write indices that are wrong.
        let extents: Vec<Extent> = extents.filter(|it| it.end() <= length).collect();
        if let Err(missing) = filled(file, input, index, &extents)? {
            return Ok(Err(missing));
        }
    }
    Ok(Ok(()))
}

/// Looks whether the samples of a stream are not zeros.
fn filled(file: &File, input: &Input, index: usize, extents: &[Extent]) -> Found {
    let Some(facts) = raw::stream_facts(input, index) else { return Ok(Ok(())) };
    let codec = facts.codec.as_str();
    let is_picture = facts.kind == Type::Video && !UNCOMPRESSED.contains(&codec);
    if !is_picture && !SOUND.contains(&codec) {
        return Ok(Ok(()));
    }
    let begins_with_zeros = |it: &Extent| -> io::Result<bool> {
        let looked_at = (it.size as usize).min(ZEROS);
        Ok(looked_at >= LEAST && is_zero(file, it.at, looked_at)?)
    };
    // Files are mostly filled in order, so the furthest counts most.
    let tell = extents.iter().filter(|it| it.size as usize >= LEAST);
    if let Some(last) = tell.max_by_key(|it| it.end()) {
        let sample = format!("the last sample of stream {index}");
        let may_be_cut = UNPADDED.contains(&codec) && last.size as usize > ZEROS;
        if begins_with_zeros(last)? {
            return miss("zero_tail", format!("{sample} is zeros"));
        }
        if may_be_cut && is_zero(file, last.end() - ZEROS as u64, ZEROS)? {
            return miss("zero_tail", format!("{sample} ends in zeros"));
        }
        let run = if WITHOUT_RUNS.contains(&codec) { ZEROS } else { LONG_RUN };
        if UNPADDED.contains(&codec) && has_run(file, *last, run)? {
            return miss("zero_tail", format!("a part of {sample} is zeros"));
        }
    }
    let looks = if is_picture { SAMPLES.min(extents.len()) } else { 0 };
    for step in 0..looks {
        let chosen = step * extents.len().saturating_sub(1) / looks;
        if begins_with_zeros(&extents[chosen])? {
            return miss("hole", format!("sample {chosen} of stream {index} is zeros"));
        }
    }
    Ok(Ok(()))
}

/// Looks whether the clusters of a Matroska file, whose segment ends at `segment_end`, are not zeros.
pub(super) fn clusters(file: &File, segment_end: u64, input: &mut Input) -> Found {
    let streams = 0..input.streams().count();
    let mut known: Vec<u64> =
        streams.flat_map(|index| raw::index_extents(input, index)).map(|it| it.at).collect();
    known.sort_unstable();
    known.dedup();
    let Some(last) = known.last().copied() else { return Ok(Ok(())) };
    let looks = SAMPLES.min(known.len() - 1);
    for step in 0..looks {
        let at = known[step * (known.len() - 1) / looks];
        if is_zero(file, at, ZEROS)? {
            return miss("hole", format!("the cluster at {at} is zeros"));
        }
    }
    let (mut at, mut cluster) = (last, None);
    for _ in 0..MOST_ELEMENTS {
        if at >= segment_end {
            break;
        }
        if is_zero(file, at, ZEROS.min((segment_end - at) as usize))? {
            return miss("zero_tail", format!("it is zeros from {at}"));
        }
        let Some((id, content)) = element_at(file, at)? else { return Ok(Ok(())) };
        at = content.end();
        if id == CLUSTER {
            cluster = Some(content);
        }
    }
    let Some(cluster) = cluster else { return Ok(Ok(())) };
    let facts = (0..input.streams().count()).filter_map(|index| raw::stream_facts(input, index));
    let is_known = |it: raw::StreamFacts| {
        let codec = it.codec.as_str();
        let is_sound = SOUND.contains(&codec) || OTHER_SOUND.contains(&codec);
        UNPADDED.contains(&codec) || is_sound || it.kind == Type::Subtitle
    };
    if facts.into_iter().all(is_known) {
        return match has_run(file, cluster, LONG_RUN)? {
            true => miss("zero_tail", "a part of its last cluster is zeros"),
            false => Ok(Ok(())),
        };
    }
    let tail = ZERO_TAIL.min(u64::from(cluster.size) / 2);
    let is_compressed = !(0..input.streams().count()).any(|index| may_be_zeros(input, index));
    match is_compressed && tail > 0 && is_zero(file, cluster.end() - tail, tail as usize)? {
        true => miss("zero_tail", "its last cluster ends in zeros"),
        false => Ok(Ok(())),
    }
}

/// Name and content of the element of Matroska at `at`; `None` where there is none of known size.
pub(super) fn element_at(file: &File, at: u64) -> io::Result<Option<([u8; 4], Extent)>> {
    let mut header = [0; 12];
    let read = read_some(file, &mut header, at)?;
    let width = header[0].leading_zeros() as usize + 1;
    if width > 4 || read < header.len() {
        return Ok(None);
    }
    let mut id = [0; 4];
    id[4 - width..].copy_from_slice(&header[..width]);
    let found = element(&header, 0, &header[..width]);
    let content = found.and_then(|(size, from)| {
        Some(Extent { at: at + from as u64, size: u32::try_from(size?).ok()? })
    });
    Ok(content.map(|it| (id, it)))
}

/// Whether there are `run` zeros in a row, as far as it is searched.
fn has_run(file: &File, extent: Extent, run: usize) -> io::Result<bool> {
    let mut bytes = vec![0; u64::from(extent.size).min(MOST_SEARCHED) as usize];
    let from = extent.end() - bytes.len() as u64;
    let read = read_some(file, &mut bytes, from)?;
    let mut zeros = 0;
    Ok(bytes[..read].iter().any(|byte| {
        zeros = if *byte == 0 { zeros + 1 } else { 0 };
        zeros >= run
    }))
}
